"""Keep what fused attention returned in the forward, so that recomputing need not run it.

Attention is the block's most expensive operation and has one of its smallest outputs: with it kept,
recomputing a block costs little more than its matrix products (selective recomputation: Korthikanti
et al., 2022, "Reducing activation recomputation in large transformer models", section 5). The modes
work below autograd: the recomputed graph is the same graph, over the same bits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

FUSED_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
"""Returns the output `[B, heads, T, head_size]` and the fp32 log-sum-exp `[B, heads, T]`."""


@dataclass(frozen=True, slots=True)
class _Form:
    """Shape and strides of a kept tensor; its bytes lie densely in the buffer."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]


class KeptAttention:
    """The form of one block's kept attention; its bytes lie in a 1-D uint8 buffer passed in.

    Args:
        dtype: of the attention's output.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._forms: tuple[_Form, _Form] | None = None

    def keep(self, results: tuple[Tensor, Tensor], buffer: Tensor) -> None:
        """Copy output and log-sum-exp into the buffer."""
        first, second = (_Form(tuple(t.shape), t.stride()) for t in results)
        self._forms = (first, second)
        for kept, result in zip(self.tensors(buffer), results, strict=True):
            kept.copy_(result)

    def forget(self) -> None:
        """Nothing is kept, so that the next recompute runs the attention."""
        self._forms = None

    @property
    def is_kept(self) -> bool:
        """Whether `tensors` can be asked for."""
        return self._forms is not None

    def tensors(self, buffer: Tensor) -> tuple[Tensor, Tensor]:
        """Return views of the buffer in the form that the attention returned."""
        assert self._forms is not None
        first, second = self._forms
        count = torch.Size(first.shape).numel()
        output = buffer[: count * self._dtype.itemsize].view(self._dtype)
        rest = buffer[count * self._dtype.itemsize :]
        log_sum = rest[: torch.Size(second.shape).numel() * 4].view(torch.float32)
        return (
            output.as_strided(first.shape, first.strides),
            log_sum.as_strided(second.shape, second.strides),
        )


class KeepAttention(TorchDispatchMode):
    """While active, the one fused attention that runs is kept; a second one means that none is."""

    def __init__(self, kept: KeptAttention, buffer: Tensor) -> None:
        super().__init__()
        self._kept = kept
        self._buffer = buffer
        self._num_calls = 0
        kept.forget()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation; copy what fused attention returns."""
        result = func(*args, **(kwargs or {}))
        if func is FUSED_ATTENTION:
            self._num_calls += 1
            if self._num_calls == 1:
                self._kept.keep(result, self._buffer)
            else:
                self._kept.forget()
        return result


class ReuseAttention(TorchDispatchMode):
    """While active, fused attention returns what was kept instead of running."""

    def __init__(self, kept: KeptAttention, buffer: Tensor) -> None:
        super().__init__()
        self._kept = kept
        self._buffer = buffer

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the kept results for fused attention; run every other operation."""
        if func is FUSED_ATTENTION and self._kept.is_kept:
            return self._kept.tensors(self._buffer)
        return func(*args, **(kwargs or {}))
