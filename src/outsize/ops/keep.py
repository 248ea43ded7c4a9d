"""Keep what the costly operations of a block returned in the forward, so that recomputing the block
need not run them.

Attention is the block's most expensive operation and has one of its smallest outputs; after it come
the products with the block's weights. With both kept, recomputing costs little more than norms and
activation functions (selective recomputation: Korthikanti et al., 2022, "Reducing activation
recomputation in large transformer models", section 5). The modes work below autograd: the
recomputed graph is the same graph, over the same bits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from outsize.quantities import align_up
from outsize.spec.tensor import TENSOR_ALIGNMENT_BYTES

Operation = Callable[..., Any]
Run = Callable[[], Any]
"""An operation with its arguments."""

ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
"""Fused attention: returns the output `[B, heads, T, head_size]` and the fp32 log-sum-exp
`[B, heads, T]`.
"""

_WEIGHT_OPERAND = {torch.ops.aten.mm.default: 1, torch.ops.aten.addmm.default: 2}
"""Products with a matrix of weights, and the place of that matrix among their arguments."""

PRODUCTS: tuple[Operation, ...] = tuple(_WEIGHT_OPERAND)


@dataclass(frozen=True, slots=True)
class _Call:
    """What tells the calls of one block apart.

    Attributes:
        operation: the operation.
        shapes: of its tensor arguments.
        weight: byte offset of the weight matrix from the start of the layer's weights; None for an
            operation without one.
    """

    operation: Operation
    shapes: tuple[torch.Size, ...]
    weight: int | None


@dataclass(frozen=True, slots=True)
class _Form:
    """Form of a kept tensor, whose bytes lie densely from `offset_bytes` of the buffer on."""

    offset_bytes: int
    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype

    def in_buffer(self, buffer: Tensor) -> Tensor:
        num_bytes = self.shape.numel() * self.dtype.itemsize
        dense = buffer[self.offset_bytes : self.offset_bytes + num_bytes].view(self.dtype)
        return dense.as_strided(self.shape, self.strides)


class KeptResults:
    """The forms of what some operations of one block returned.

    The bytes lie in a 1-D uint8 buffer that is passed in each time, since it may move in between.
    What does not fit into it is not kept. Two calls that cannot be told apart are not kept either.
    """

    def __init__(self) -> None:
        self._forms: dict[_Call, tuple[_Form, ...] | None] = {}
        self._used_bytes = 0

    def clear(self) -> None:
        """Nothing is kept."""
        self._forms = {}
        self._used_bytes = 0

    def keep(self, call: _Call, results: tuple[Tensor, ...], buffer: Tensor) -> None:
        """Copy the results of a call into the buffer if there is room."""
        if call in self._forms:
            self._forms[call] = None
            return
        forms, end = [], self._used_bytes
        for result in results:
            forms.append(_Form(end, result.shape, result.stride(), result.dtype))
            end = align_up(end + result.nbytes, TENSOR_ALIGNMENT_BYTES)
        if end > buffer.numel():
            return
        self._forms[call] = tuple(forms)
        self._used_bytes = end
        for form, result in zip(forms, results, strict=True):
            form.in_buffer(buffer).copy_(result)

    def find(self, call: _Call, buffer: Tensor) -> tuple[Tensor, ...] | None:
        """Return views of the buffer in the form that the call returned; None when not kept."""
        forms = self._forms.get(call)
        return None if forms is None else tuple(form.in_buffer(buffer) for form in forms)


Places = Mapping[Operation, tuple[KeptResults, Tensor]]
"""For each operation to keep, its results and the buffer that their bytes lie in."""


class _Mode(TorchDispatchMode):
    """Args:
    places: what to keep and where.
    weights: 1-D uint8 view of the layer's weights; products with other matrices are not kept.
    """

    def __init__(self, places: Places, weights: Tensor) -> None:
        super().__init__()
        self._places = places
        self._start = weights.data_ptr()
        self._num_bytes = weights.numel()

    def __torch_dispatch__(
        self,
        func: Operation,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation, or do with it what the mode is for."""
        place = self._places.get(func)
        call = None if place is None else self._call(func, args)
        if place is None or call is None:
            return func(*args, **(kwargs or {}))
        return self._costly(call, partial(func, *args, **(kwargs or {})), *place)

    def _call(self, func: Operation, args: tuple[Any, ...]) -> _Call | None:
        shapes = tuple(arg.shape for arg in args if isinstance(arg, Tensor))
        operand = _WEIGHT_OPERAND.get(func)
        if operand is None:
            return _Call(func, shapes, None)
        offset = args[operand].data_ptr() - self._start
        return _Call(func, shapes, offset) if 0 <= offset < self._num_bytes else None

    def _costly(self, call: _Call, run: Run, kept: KeptResults, buffer: Tensor) -> Any:
        raise NotImplementedError


class Keep(_Mode):
    """While active, what costly operations return is kept."""

    def __init__(self, places: Places, weights: Tensor) -> None:
        super().__init__(places, weights)
        for kept, _ in places.values():
            kept.clear()

    def _costly(self, call: _Call, run: Run, kept: KeptResults, buffer: Tensor) -> Any:
        result = run()
        kept.keep(call, result if isinstance(result, tuple) else (result,), buffer)
        return result


class Reuse(_Mode):
    """While active, costly operations return what was kept instead of running."""

    def _costly(self, call: _Call, run: Run, kept: KeptResults, buffer: Tensor) -> Any:
        found = kept.find(call, buffer)
        if found is None:
            return run()
        return found if len(found) > 1 else found[0]
