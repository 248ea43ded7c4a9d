"""Rates of causal attention, forward and backward, as a block of a model calls it.

Queries, keys and values are `[1, T, heads, head_size]` with the two middle dimensions swapped, and
want gradients. On the CPU PyTorch takes its flash kernel then, whose backward works on whole heads:
a processor with many cores is only busy with as many heads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from outsize.probe.compute import TORCH_DTYPES, Bench, small_numbers
from outsize.spec.machine import AttentionRate
from outsize.spec.tensor import DType

_LEAST_HEADS = 2
_POSITIONS = 8192
"""Positions of all heads together, so that a short attention is not over before it has begun."""

_NUM_TENSORS = 8
"""Queries, keys, values, output, and the gradient of each."""


@dataclass(frozen=True, slots=True)
class _Case:
    """One size; `flops` of the forward, the masked half left out."""

    dtype: DType
    seq_length: int
    head_size: int
    num_heads: int

    @property
    def flops(self) -> float:
        return 2.0 * self.seq_length**2 * self.head_size * self.num_heads

    @property
    def num_bytes(self) -> int:
        element_bytes = TORCH_DTYPES[self.dtype].itemsize
        return _NUM_TENSORS * self.num_heads * self.seq_length * self.head_size * element_bytes


def attention_rates(bench: Bench) -> tuple[AttentionRate, ...]:
    """Measure every attention that fits into the bounds of the sizes; at least one.

    Cost: at most `working_bytes` on the device.
    """
    found = []
    end_s = bench.watch.clock() + bench.sizes.phase_s
    for head_size in bench.sizes.head_sizes:
        for dtype in bench.sizes.dtypes:
            for rate in _rates_of_head(bench, dtype, head_size):
                found.append(rate)
                if bench.watch.clock() > end_s:
                    return tuple(found)
    return tuple(found)


def _rates_of_head(bench: Bench, dtype: DType, head_size: int) -> Iterator[AttentionRate]:
    flops_per_s = None
    for seq_length in bench.sizes.seq_lengths:
        case = _case(bench, dtype, seq_length, head_size)
        if flops_per_s is not None and (
            case.flops > bench.sizes.longest_call_s * flops_per_s
            or case.num_bytes > bench.sizes.working_bytes
        ):
            return
        forward_s, backward_s = _seconds(bench, case)
        flops_per_s = case.flops / max(forward_s, backward_s)
        yield AttentionRate(
            dtype=dtype,
            seq_length=seq_length,
            head_size=head_size,
            forward_flops_per_s=case.flops / forward_s,
            backward_flops_per_s=2.5 * case.flops / backward_s,
        )


def _case(bench: Bench, dtype: DType, seq_length: int, head_size: int) -> _Case:
    """Choose as many heads as fit and keep every thread busy."""
    one = _Case(dtype, seq_length, head_size, 1)
    wanted = max(_LEAST_HEADS, _POSITIONS // seq_length, bench.num_threads)
    fitting = bench.sizes.working_bytes // one.num_bytes
    return _Case(dtype, seq_length, head_size, max(1, min(wanted, fitting)))


def _seconds(bench: Bench, case: _Case) -> tuple[float, float]:
    """Time forward and backward."""
    shape = (1, case.seq_length, case.num_heads, case.head_size)
    inputs = [small_numbers(bench, case.dtype, *shape).transpose(1, 2) for _ in range(3)]
    for tensor in inputs:
        tensor.requires_grad_()
    run = partial(_attend, *inputs)
    forward_s = bench.watch.median_s(run, bench.sizes.point_s)
    output = run()
    gradient = small_numbers(bench, case.dtype, *shape).transpose(1, 2)
    back = partial(torch.autograd.grad, output, inputs, gradient, retain_graph=True)
    return forward_s, bench.watch.median_s(back, bench.sizes.point_s)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return scaled_dot_product_attention(query, key, value, is_causal=True)
