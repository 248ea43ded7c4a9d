"""Seconds of layers from the rates of a processor, where none were measured.

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

from outsize.plan.simulate import Costs
from outsize.spec.block import BlockShape
from outsize.spec.machine import AttentionRate, LayerCost, MatmulRate, Processor
from outsize.spec.model import LayerSpec, ModelSpec
from outsize.spec.tensor import DTYPE_BYTES
from outsize.spec.workload import TrainWorkload

_CALL_S = 1e-3
"""Dispatch of one block's operations, forward; twice that backward."""

_HIDDEN_PASSES = 36.0
_PRODUCT_PASSES = 6.0
"""Elementwise traffic of a block's forward, in passes over its hidden state and over what its
products return; the backward takes twice as many.
"""

_SCORE_TRAFFIC_BYTES = 36
"""Elementwise traffic for each such score, forward: scale, cap, mask, softmax and its rounding."""

_ADAPTER_INPUT_BYTES = 6
_ADAPTER_OUTPUT_BYTES = 40
"""Traffic of an adapter for each input and output of a token: it computes in fp32, beside a product
in another dtype that it is added to.
"""

_MAGNITUDE_BYTES = 40
"""Traffic for each number of a matrix whose rows have a magnitude."""

_UNPACK_BYTES = 40
"""Elementwise traffic of unpacking one number."""

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
        products_s = sum(self._product_s(tokens, n, m, workload.dtype) for m, n in matrices(layer))
        frozen_s = products_s if layer.frozen else 0.0  # their gradients are not computed
        adapters_s = self._adapters_s(layer, workload)
        widths = sum(m for m, _ in matrices(layer))
        passes = _HIDDEN_PASSES * self.model.hidden_size + _PRODUCT_PASSES * widths
        rest_s = tokens * item * passes / self.processor.elementwise_bytes_per_s
        attention_s, attention_backward_s = self._attention_s(block, workload)
        recompute_s = rest_s + (0.0 if keeps else products_s)
        return LayerCost(
            forward_s=products_s + attention_s + rest_s + adapters_s + _CALL_S,
            backward_s=recompute_s
            - frozen_s
            + 2 * (products_s + rest_s + _CALL_S)
            + 3 * adapters_s
            + attention_backward_s,
            unpack_s=self._unpack_s(layer),
        )

    def _adapters_s(self, layer: LayerSpec, workload: TrainWorkload) -> float:
        """Return the seconds of the adapters' forward: products in the dtype that is trained in,
        what is read and written around them, and, with a magnitude, a pass over the whole matrix.
        """
        tokens, dtype = workload.micro_batch_tokens, workload.weights_dtype
        if dtype not in self._rates:
            dtype = workload.dtype
        seconds = traffic = 0.0
        downs = [t.shape for t in layer.tensors if t.added and t.name.endswith("lora_A.weight")]
        ups = [t.shape for t in layer.tensors if t.added and t.name.endswith("lora_B.weight")]
        has_magnitudes = any(len(t.shape) == 1 for t in layer.tensors if t.added)
        for (rank, inner), (width, _) in zip(downs, ups, strict=True):
            rows = [tokens, inner] if has_magnitudes else [tokens]
            for count in rows:
                seconds += self._product_s(count, inner, rank, dtype)
                seconds += self._product_s(count, rank, width, dtype)
            traffic += tokens * (_ADAPTER_INPUT_BYTES * inner + _ADAPTER_OUTPUT_BYTES * width)
            traffic += _MAGNITUDE_BYTES * inner * width if has_magnitudes else 0
        return seconds + traffic / self.processor.elementwise_bytes_per_s

    def _unpack_s(self, layer: LayerSpec) -> float:
        num_packed = sum(t.num_elements for t in layer.frozen if t.packing is not None)
        return _UNPACK_BYTES * num_packed / self.processor.elementwise_bytes_per_s

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
        product_s = self._product_s(tokens, hidden, vocabulary, workload.dtype)
        logits_s = _HEAD_LOGIT_BYTES * tokens * vocabulary / self.processor.elementwise_bytes_per_s
        num_products = 2 + self.model.trains_projection
        return LayerCost(forward_s=0.0, backward_s=num_products * product_s + logits_s + _CALL_S)

    def _product_s(self, rows: int, inner: int, columns: int, dtype: str) -> float:
        flops = 2.0 * rows * inner * columns
        return flops / self._rates[dtype].at(rows, inner * columns)

    @cached_property
    def _rates(self) -> dict[str, "_MatmulTable"]:
        dtypes = {rate.dtype for rate in self.processor.matmul}
        return {
            dtype: _MatmulTable([r for r in self.processor.matmul if r.dtype == dtype])
            for dtype in dtypes
        }

    def _attention_s(self, block: BlockShape, workload: TrainWorkload) -> tuple[float, float]:
        length = workload.seq_length
        if not self.model.attention_heads:
            return self._unfused_attention_s(block, workload)
        seen = min(length, block.window_tokens or length)
        pairs = length * seen - seen * seen / 2  # of a token and one that it sees
        heads = workload.micro_batch_rows * block.num_heads
        flops = 4.0 * pairs * heads * block.head_size
        rate = self._attention_rate(block, workload)
        if rate is None:
            product = self._rates[workload.dtype].at(length, block.head_size * length)
            return 2 * flops / product, 5 * flops / product
        return flops / rate.forward_flops_per_s, 2.5 * flops / rate.backward_flops_per_s

    def _unfused_attention_s(
        self, block: BlockShape, workload: TrainWorkload
    ) -> tuple[float, float]:
        """Return the seconds of attention whose scores are tensors: all of them, seen or not. The
        backward computes them again.
        """
        length = workload.seq_length
        scores = workload.micro_batch_rows * block.num_heads * length**2
        rate = self._rates[workload.dtype].at(length, block.head_size * length)
        traffic_s = _SCORE_TRAFFIC_BYTES * scores / self.processor.elementwise_bytes_per_s
        forward_s = 4.0 * scores * block.head_size / rate + traffic_s
        return forward_s, 3 * forward_s

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


def matrices(layer: LayerSpec) -> tuple[tuple[int, int], ...]:
    """Return the shapes of the layer's own matrices, without adapters."""
    return tuple(
        (t.shape[0], t.shape[1]) for t in layer.tensors if len(t.shape) == 2 and not t.added
    )
