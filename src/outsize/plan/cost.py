"""Seconds and temporaries of layers from the rates of a processor, where none were measured.

A block's time is the sum of its matrix products, its attention, what is left (norms, rotations,
activation, residuals) by the bytes that it touches, and a fixed part for each call. A run measures
its real layers instead (`train/profile.py`); this answers before that, and for other machines.

The numbers below were fitted to layers measured on a CPU: Llama, Qwen3, Gemma 3 and GPT-2 shapes of
15 M to 1.1 B parameters, 128 to 4096 tokens, bfloat16 and float32; see EXPERIMENTS.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from outsize.plan.layout import NORM_SPAN_ELEMENTS
from outsize.plan.simulate import Costs
from outsize.spec.block import BlockShape
from outsize.spec.machine import AttentionRate, LayerCost, MatmulRate, Processor
from outsize.spec.model import LayerSpec, ModelSpec
from outsize.spec.tensor import DTYPE_BYTES
from outsize.spec.workload import TrainWorkload

_CALL_S = 1e-3
"""Dispatch of one block's operations, forward; twice that backward."""

_HIDDEN_PASSES = 14.0
_PRODUCT_PASSES = 2.0
"""Elementwise traffic of a block's forward, in passes over its hidden state and over what its
products return; the backward takes twice as many.
"""

_HEAD_LOGIT_BYTES = 60
"""Elementwise traffic for each logit, forward and backward."""


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Costs of one model's layers on one processor.

    Attributes:
        model: its layers.
        blocks: what each block computes, first block first.
        processor: what computes.
    """

    model: ModelSpec
    blocks: Sequence[BlockShape]
    processor: Processor

    def costs(self, workload: TrainWorkload) -> Costs:
        """Return the seconds of every kind of layer, with and without kept products."""
        last = len(self.model.layers) - 1
        found: dict[tuple[str, bool], LayerCost] = {}
        for index, layer in enumerate(self.model.layers):
            for keeps in (False, True):
                if (layer.signature, keeps) in found:
                    continue
                if index == 0:
                    cost = self._embedding(workload)
                elif index == last:
                    cost = self._head(workload)
                else:
                    cost = self._block(layer, self.blocks[index - 1], workload, keeps)
                found[layer.signature, keeps] = cost
        return found

    def _block(
        self, layer: LayerSpec, block: BlockShape, workload: TrainWorkload, keeps: bool
    ) -> LayerCost:
        tokens, item = workload.micro_batch_tokens, DTYPE_BYTES[workload.dtype]
        products_s = sum(self._product_s(tokens, n, m, workload) for m, n in _matrices(layer))
        widths = sum(m for m, _ in _matrices(layer))
        passes = _HIDDEN_PASSES * self.model.hidden_size + _PRODUCT_PASSES * widths
        rest_s = tokens * item * passes / self.processor.elementwise_bytes_per_s
        attention_s, attention_backward_s = self._attention_s(block, workload)
        recompute_s = rest_s + (0.0 if keeps else products_s)
        return LayerCost(
            forward_s=products_s + attention_s + rest_s + _CALL_S,
            backward_s=recompute_s + 2 * (products_s + rest_s + _CALL_S) + attention_backward_s,
        )

    def _embedding(self, workload: TrainWorkload) -> LayerCost:
        item = DTYPE_BYTES[workload.dtype]
        rows_bytes = workload.micro_batch_tokens * self.model.hidden_size * item
        rate = self.processor.elementwise_bytes_per_s
        return LayerCost(
            forward_s=4 * rows_bytes / rate + _CALL_S / 2,
            backward_s=10 * rows_bytes / rate + _CALL_S,
        )

    def _head(self, workload: TrainWorkload) -> LayerCost:
        tokens = workload.micro_batch_tokens
        vocabulary, hidden = self.model.vocab_size, self.model.hidden_size
        product_s = self._product_s(tokens, hidden, vocabulary, workload)
        logits_s = _HEAD_LOGIT_BYTES * tokens * vocabulary / self.processor.elementwise_bytes_per_s
        return LayerCost(forward_s=0.0, backward_s=3 * product_s + logits_s + _CALL_S)

    def _product_s(self, rows: int, inner: int, columns: int, workload: TrainWorkload) -> float:
        flops = 2.0 * rows * inner * columns
        return flops / self._rates[workload.dtype].at(rows, inner * columns)

    @cached_property
    def _rates(self) -> dict[str, "_MatmulTable"]:
        dtypes = {rate.dtype for rate in self.processor.matmul}
        return {
            dtype: _MatmulTable([r for r in self.processor.matmul if r.dtype == dtype])
            for dtype in dtypes
        }

    def _attention_s(self, block: BlockShape, workload: TrainWorkload) -> tuple[float, float]:
        length = workload.seq_length
        seen = min(length, block.window_tokens or length)
        pairs = length * seen - seen * seen / 2  # of a token and one that it sees
        heads = workload.micro_batch_rows * block.num_heads
        flops = 4.0 * pairs * heads * block.head_size
        rate = self._attention_rate(block, workload)
        if rate is None:
            product = self._rates[workload.dtype].at(length, block.head_size * length)
            return 2 * flops / product, 5 * flops / product
        return flops / rate.forward_flops_per_s, 2.5 * flops / rate.backward_flops_per_s

    def _attention_rate(self, block: BlockShape, workload: TrainWorkload) -> AttentionRate | None:
        """Return the measured rate whose sizes are nearest."""
        same = [rate for rate in self.processor.attention if rate.dtype == workload.dtype]
        if not same:
            return None

        def distance(rate: AttentionRate) -> float:
            length = abs(math.log(rate.seq_length / workload.seq_length))
            return length + 2 * abs(math.log(rate.head_size / block.head_size))

        return min(same, key=distance)


class _MatmulTable:
    """Rates of matrix products of one dtype, read off by rows and size of the matrix."""

    def __init__(self, rates: Sequence[MatmulRate]) -> None:
        self._by_size: dict[int, list[tuple[float, float]]] = {}
        for rate in sorted(rates, key=lambda rate: rate.rows):
            points = self._by_size.setdefault(rate.inner * rate.columns, [])
            points.append((math.log(rate.rows), math.log(rate.flops_per_s)))

    def at(self, rows: int, elements: int) -> float:
        """Return operations per second for `rows` of input and a matrix of `elements`."""
        across = [
            (math.log(size), _between(points, math.log(rows)))
            for size, points in sorted(self._by_size.items())
        ]
        return math.exp(_between(across, math.log(elements)))


def _between(points: Sequence[tuple[float, float]], place: float) -> float:
    """Interpolate between neighbouring points; beyond the ends the last value holds."""
    for (left, low), (right, high) in pairwise(points):
        if left < right and place <= right:  # matrices of one size may differ in shape
            fraction = max(0.0, (place - left) / (right - left))
            return low + fraction * (high - low)
    return points[-1][1]


def temporaries_bytes(model: ModelSpec, workload: TrainWorkload, keeps: bool) -> int:
    """Return about what PyTorch allocates inside the layers of a step: the most that one layer
    takes, since the heap keeps its pages.

    Args:
        model: the model.
        workload: of the step.
        keeps: whether products are kept, and then not allocated again in the backward.
    """
    tokens, item = workload.micro_batch_tokens, DTYPE_BYTES[workload.dtype]
    blocks = (
        _block_temporaries_bytes(layer, model.hidden_size, tokens, item, keeps)
        for layer in model.layers[1:-1]
    )
    head_bytes = min(tokens, 20_000_000 // model.vocab_size + 1) * model.vocab_size * (item + 4)
    norm_bytes = 4 * min(NORM_SPAN_ELEMENTS, model.vocab_size)
    return max([head_bytes + norm_bytes, *blocks]) + 16 * 2**20


def _block_temporaries_bytes(
    layer: LayerSpec, hidden: int, tokens: int, item: int, keeps: bool
) -> int:
    shapes = _matrices(layer)
    widths = sum(m for m, _ in shapes)
    largest = max((m * n for m, n in shapes), default=0)
    saved = 2.0 * widths + 12 * hidden
    return int(tokens * item * saved) + 2 * largest * item


def _matrices(layer: LayerSpec) -> tuple[tuple[int, int], ...]:
    return tuple((t.shape[0], t.shape[1]) for t in layer.tensors if len(t.shape) == 2)
