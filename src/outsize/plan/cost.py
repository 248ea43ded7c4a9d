"""Seconds and temporaries of layers from the rates of a processor, where none were measured.

A block's time is the sum of its matrix products, its attention, what is left (norms, rotations,
activation, residuals) by the bytes that it touches, and a fixed part for each call. A run measures
its real layers instead (`train/profile.py`); this answers before that, and for other machines.

The numbers below were fitted to layers measured on a CPU: Llama, Qwen3, Gemma 3 and GPT-2 shapes of
15 M to 1.1 B parameters, 128 to 4096 tokens, bfloat16 and float32; see EXPERIMENTS.md.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from outsize.plan.simulate import Costs
from outsize.spec.block import BlockShape
from outsize.spec.machine import AttentionRate, LayerCost, MatmulRate, Processor
from outsize.spec.model import LayerSpec, ModelSpec
from outsize.spec.tensor import DTYPE_BYTES, TensorSpec
from outsize.spec.workload import TrainWorkload

_CALL_S = 1e-3
"""Dispatch of one block's operations, forward; twice that backward."""

_HIDDEN_PASSES = 36.0
_PRODUCT_PASSES = 6.0
"""Elementwise traffic of a block's forward, in passes over its hidden state and over what its
products return; the backward takes twice as many.
"""

_LOSS_CHUNK_ELEMENTS = 20_000_000
"""Logits that the head's loss holds at once; as in `ops/loss.py`."""

_LIBRARY_BYTES = 55 * 2**20
_COMPOSED = frozenset({"gelu_new", "gelu_fast", "quick_gelu"})
"""Activations that Transformers computes by several operations, each of which keeps its input."""

_SCORE_BYTES = 16
"""What autograd holds at once for each attention score, where attention is not fused: the score
after its cap, its fp32 probability and the rounded one, and their gradients.
"""

_SCORE_TRAFFIC_BYTES = 36
"""Elementwise traffic for each such score, forward: scale, cap, mask, softmax and its rounding."""

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
        products_s = sum(self._product_s(tokens, n, m, workload) for m, n in _matrices(layer))
        frozen_s = sum(self._product_s(tokens, n, m, workload) for m, n in _shapes(layer.frozen))
        widths = sum(m for m, _ in _matrices(layer))
        passes = _HIDDEN_PASSES * self.model.hidden_size + _PRODUCT_PASSES * widths
        rest_s = tokens * item * passes / self.processor.elementwise_bytes_per_s
        attention_s, attention_backward_s = self._attention_s(block, workload)
        recompute_s = rest_s + (0.0 if keeps else products_s)
        return LayerCost(
            forward_s=products_s + attention_s + rest_s + _CALL_S,
            backward_s=recompute_s
            - frozen_s
            + 2 * (products_s + rest_s + _CALL_S)
            + attention_backward_s,
            unpack_s=self._unpack_s(layer),
        )

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
        product_s = self._product_s(tokens, hidden, vocabulary, workload)
        logits_s = _HEAD_LOGIT_BYTES * tokens * vocabulary / self.processor.elementwise_bytes_per_s
        num_products = 2 + self.model.trains_projection
        return LayerCost(forward_s=0.0, backward_s=num_products * product_s + logits_s + _CALL_S)

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


def temporaries_bytes(
    model: ModelSpec, blocks: Sequence[BlockShape], workload: TrainWorkload
) -> int:
    """Return about what PyTorch allocates inside the layers of a step: the most that one layer
    takes, since the heap keeps its pages, and the pages of library code that come back.

    Args:
        model: the model.
        blocks: what each block computes.
        workload: of the step.
    """
    item = DTYPE_BYTES[workload.dtype]
    widest = max(
        (
            _block_temporaries_bytes(layer, block, model, workload)
            for layer, block in zip(model.layers[1:-1], blocks, strict=True)
        ),
        default=0,
    )
    chunk = min(workload.micro_batch_tokens, _LOSS_CHUNK_ELEMENTS // model.vocab_size + 1)
    head_bytes = int(1.2 * chunk * model.vocab_size * item)
    return _LIBRARY_BYTES + int(1.05 * max(head_bytes, widest))


def contexts_bytes(blocks: Sequence[BlockShape], workload: TrainWorkload) -> int:
    """Return what the masks of all micro-batches but the one at work take: of each kind of
    attention one number for each pair of tokens of a row.
    """
    pairs = workload.micro_batch_rows * workload.seq_length**2
    kinds = len({block.attention for block in blocks})
    others = workload.num_micro_batches - 1
    return others * kinds * pairs * DTYPE_BYTES[workload.dtype]


def _block_temporaries_bytes(
    layer: LayerSpec, block: BlockShape, model: ModelSpec, workload: TrainWorkload
) -> int:
    """What autograd holds of one block at once: twice what its products return and ten hidden
    states, six fp32 copies of what is normed, an activation that is made of many operations, the
    mask of the attention, and its scores where it is not fused.
    """
    tokens, item = workload.micro_batch_tokens, DTYPE_BYTES[workload.dtype]
    shapes = _matrices(layer)
    widths = sum(m for m, _ in shapes)
    largest = max((m * n for m, n in shapes), default=0)
    normed = sum(
        tensor.num_elements
        for tensor in layer.tensors
        if len(tensor.shape) == 1 and not tensor.name.endswith("bias")
    )
    composed = 4 * block.feed_forward_size if block.activation in _COMPOSED else 0
    token_bytes = item * (2 * widths + 10 * model.hidden_size + composed) + 6 * 4 * normed
    pairs = workload.micro_batch_rows * workload.seq_length**2
    pair_bytes = 2 * item + (0 if model.attention_heads else _SCORE_BYTES * block.num_heads)
    return tokens * token_bytes + pair_bytes * pairs + item * largest


def _matrices(layer: LayerSpec) -> tuple[tuple[int, int], ...]:
    return _shapes(layer.tensors)


def _shapes(tensors: Iterable[TensorSpec]) -> tuple[tuple[int, int], ...]:
    return tuple((t.shape[0], t.shape[1]) for t in tensors if len(t.shape) == 2)
