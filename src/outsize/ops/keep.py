"""Keep what the costly operations of a block returned in the forward, so that recomputing the block
need not run them.

Attention is the block's most expensive operation and has one of its smallest outputs; after it come
the products with the block's weights. With both kept, recomputing costs little more than norms and
activation functions (selective recomputation: Korthikanti et al., 2022, "Reducing activation
recomputation in large transformer models", section 5). The modes work below autograd: the
recomputed graph is the same graph, over the same bits.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from outsize.quantities import align_up
from outsize.spec.tensor import TENSOR_ALIGNMENT_BYTES

Operation = Callable[..., Any]

ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
"""Fused attention: returns the output `[B, heads, T, head_size]` and the fp32 log-sum-exp
`[B, heads, T]`.
"""

_WEIGHT_OPERAND = {torch.ops.aten.mm.default: 1, torch.ops.aten.addmm.default: 2}
"""Products with a matrix of weights, and the place of that matrix among their arguments."""

PRODUCTS: tuple[Operation, ...] = tuple(_WEIGHT_OPERAND)

_INTO = {
    torch.ops.aten.mm.default: torch.ops.aten.mm.out,
    torch.ops.aten.addmm.default: torch.ops.aten.addmm.out,
}
"""The same products, which write their result where they are told."""


@dataclass(frozen=True, slots=True)
class _Call:
    """What tells the calls of one block apart.

    Attributes:
        operation: the operation.
        shapes: of its tensor arguments.
        weight: byte offset of the weight matrix from the start of the layer's weights; None for an
            operation without one.
        number: how many such calls the block has made before; a recompute makes them in the same
            order.
    """

    operation: Operation
    shapes: tuple[torch.Size, ...]
    weight: int | None
    number: int = 0


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

    def holds(self, offset_bytes: int) -> bool:
        """Tell whether a byte of the buffer belongs to the tensor."""
        num_bytes = self.shape.numel() * self.dtype.itemsize
        return 0 <= offset_bytes - self.offset_bytes < num_bytes


class KeptResults:
    """The forms of what some operations of one block returned.

    The bytes lie in a 1-D uint8 buffer that is passed in each time, since it may move in between.
    What does not fit into it is not kept.
    """

    def __init__(self) -> None:
        self._forms: dict[_Call, tuple[_Form, ...]] = {}
        self._used_bytes = 0

    def clear(self) -> None:
        """Nothing is kept."""
        self._forms = {}
        self._used_bytes = 0

    def keep(self, call: _Call, results: tuple[Tensor, ...], buffer: Tensor) -> None:
        """Copy the results of a call into the buffer if there is room."""
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

    def place(self, call: _Call, shape: torch.Size, dtype: torch.dtype, buffer: Tensor) -> Tensor:
        """Return the part of the buffer that the result of a call is to be written to; an empty
        tensor where there is no room.
        """
        form = _Form(self._used_bytes, shape, (shape[1], 1), dtype)
        end = self._used_bytes + shape.numel() * dtype.itemsize
        if end > buffer.numel():
            return buffer[:0]
        self._forms[call] = (form,)
        self._used_bytes = align_up(end, TENSOR_ALIGNMENT_BYTES)
        return form.in_buffer(buffer)

    def forget(self, changed: Tensor, buffer: Tensor) -> None:
        """Keep no longer what `changed` lies in, which is about to be changed in place."""
        start = changed.data_ptr() - buffer.data_ptr()
        self._forms = {
            call: forms
            for call, forms in self._forms.items()
            if not any(form.holds(start) for form in forms)
        }

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
        self._numbers: Counter[_Call] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation, or do with it what the mode is for."""
        kwargs = kwargs or {}
        place = self._places.get(func)
        call = None if place is None else self._call(func, args)
        if place is None or call is None:
            self._before(func, args, kwargs)
            return func(*args, **kwargs)
        result = self._costly(func, call, args, kwargs, *place)
        return func(*args, **kwargs) if result is None else result

    def _before(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Do what is due before any other operation runs."""

    def _costly(
        self,
        func: Any,
        call: _Call,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        kept: KeptResults,
        buffer: Tensor,
    ) -> Any:
        """Return the result of a call that is to be kept; None where it has to run as usual."""
        raise NotImplementedError

    def _call(self, func: Operation, args: tuple[Any, ...]) -> _Call | None:
        shapes = tuple(arg.shape for arg in args if isinstance(arg, Tensor))
        operand, offset = _WEIGHT_OPERAND.get(func), None
        if operand is not None:
            offset = args[operand].data_ptr() - self._start
            if not 0 <= offset < self._num_bytes:
                return None
        first = _Call(func, shapes, offset)
        number = self._numbers[first]
        self._numbers[first] += 1
        return first if number == 0 else replace(first, number=number)


class Keep(_Mode):
    """While active, what costly operations return is kept. Products are written where they are
    kept; one that is changed in place afterwards is not kept.
    """

    def __init__(self, places: Places, weights: Tensor) -> None:
        super().__init__(places, weights)
        for kept, _ in places.values():
            kept.clear()

    def _before(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if _is_mutable(func):
            self._forget(_changed(func, args, kwargs))

    def _costly(
        self,
        func: Any,
        call: _Call,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        kept: KeptResults,
        buffer: Tensor,
    ) -> Any:
        operand = _WEIGHT_OPERAND.get(func)
        if operand is None:
            result = func(*args, **kwargs)
            kept.keep(call, result if isinstance(result, tuple) else (result,), buffer)
            return result
        left, right = args[operand - 1], args[operand]
        shape = torch.Size((left.shape[0], right.shape[1]))
        out = kept.place(call, shape, left.dtype, buffer)
        return _INTO[func](*args, **kwargs, out=out) if out.numel() else None

    def _forget(self, changed: Iterable[Tensor]) -> None:
        for tensor in changed:
            for kept, buffer in self._places.values():
                kept.forget(tensor, buffer)


@functools.cache
def _is_mutable(func: Operation) -> bool:
    return bool(func._schema.is_mutable)  # type: ignore[attr-defined]


def _changed(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the tensors that a call changes in place, those in lists too."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        values = value if isinstance(value, (list, tuple)) else (value,)
        yield from (one for one in values if isinstance(one, Tensor))


class Reuse(_Mode):
    """While active, costly operations return what was kept instead of running."""

    def _costly(
        self,
        func: Any,
        call: _Call,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        kept: KeptResults,
        buffer: Tensor,
    ) -> Any:
        found = kept.find(call, buffer)
        return found if found is None or len(found) > 1 else found[0]
