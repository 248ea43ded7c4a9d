"""Rates of matrix products and of memory, on any device.

Products are measured as the trainer makes them: `torch.nn.functional.linear` with weights
`[columns, inner]`, on a heap that keeps its pages. The weights of successive calls are different
ones, as the layers of a model are, so that a product with few rows reads them from memory and not
from a cache. `attention.py` and `elementwise.py` measure the rest of a step.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor
from torch.nn.functional import linear

from outsize.probe.sizes import ComputeSizes, MatmulShape
from outsize.probe.stopwatch import Stopwatch
from outsize.spec.machine import MatmulRate
from outsize.spec.tensor import DType
from outsize.store.heap import trim_heap

TORCH_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_PATTERN_ELEMENTS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where something is measured and how.

    Attributes:
        sizes: what to measure with.
        device: where tensors lie.
        watch: the clock, which waits for the device.
        num_threads: parts that the device works in at the same time, at least.
    """

    sizes: ComputeSizes
    device: torch.device
    watch: Stopwatch
    num_threads: int


def matmul_rates(bench: Bench) -> tuple[MatmulRate, ...]:
    """Measure every product that fits into the bounds of the sizes; at least one.

    Cost: at most `working_bytes` on the device.
    """
    sizes, found = bench.sizes, []
    end_s = bench.watch.clock() + sizes.phase_s
    with torch.no_grad():
        for shape in sizes.matmul_shapes:
            for dtype in sizes.dtypes:
                for rate in _rates_of_matrix(bench, shape, dtype):
                    found.append(rate)
                    if bench.watch.clock() > end_s:
                        return tuple(found)
    return tuple(found)


def _rates_of_matrix(bench: Bench, shape: MatmulShape, dtype: DType) -> Iterator[MatmulRate]:
    """Yield the rates of one matrix for rising rows, as long as one call is short and small."""
    sizes, rate = bench.sizes, None
    trim_heap()
    element_bytes = TORCH_DTYPES[dtype].itemsize
    weight_bytes = shape.inner * shape.columns * element_bytes
    weights: list[Tensor] = []
    for rows in sizes.rows:
        flops = 2.0 * rows * shape.inner * shape.columns
        row_bytes = rows * (shape.inner + shape.columns) * element_bytes
        fitting = (sizes.working_bytes - row_bytes) // weight_bytes
        if rate is not None and (fitting < 1 or flops > sizes.longest_call_s * rate.flops_per_s):
            return
        if not weights:
            wanted = range(max(1, fitting))
            weights = [small_numbers(bench, dtype, shape.columns, shape.inner) for _ in wanted]
        del weights[max(1, fitting) :]
        tokens = small_numbers(bench, dtype, rows, shape.inner)
        seconds = bench.watch.median_s(_products(tokens, weights), sizes.point_s)
        rate = MatmulRate(
            dtype=dtype,
            rows=rows,
            inner=shape.inner,
            columns=shape.columns,
            flops_per_s=flops / seconds,
        )
        yield rate


def _products(tokens: Tensor, weights: list[Tensor]) -> Callable[[], object]:
    """Return a call that multiplies with the next matrix each time."""
    turn = cycle(weights)
    return lambda: linear(tokens, next(turn))


def small_numbers(bench: Bench, dtype: DType, *shape: int) -> Tensor:
    """Return a tensor of numbers as weights and activations have them; zeros or noise bits would
    change what is timed.
    """
    made = torch.empty(shape, dtype=TORCH_DTYPES[dtype], device=bench.device)
    num_elements = min(_PATTERN_ELEMENTS, made.numel())
    pattern = torch.empty(num_elements, dtype=made.dtype, device=bench.device)
    pattern.uniform_(-0.02, 0.02)
    for part in torch.split(made.view(-1), num_elements):
        part.copy_(pattern[: part.numel()])
    return made


def memory_rate(bench: Bench) -> float:
    """Return the bytes a second of one pass over memory: a sum, or a copy where that is faster.

    Cost: `buffer_bytes` on the device.
    """
    buffer = torch.ones(bench.sizes.buffer_bytes // 4, device=bench.device)
    target, source = buffer.chunk(2)
    sum_s = bench.watch.median_s(buffer.sum, bench.sizes.point_s)
    copy_s = bench.watch.median_s(lambda: target.copy_(source), bench.sizes.point_s)
    return buffer.nbytes / min(sum_s, copy_s)
