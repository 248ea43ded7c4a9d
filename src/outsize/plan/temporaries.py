"""What PyTorch allocates inside the layers of a step, where none were measured; see `cost.py`."""

from collections.abc import Sequence

from outsize.plan.cost import matrices
from outsize.spec.block import BlockShape
from outsize.spec.model import LayerSpec, ModelSpec
from outsize.spec.tensor import DTYPE_BYTES
from outsize.spec.workload import TrainWorkload

_LOSS_CHUNK_ELEMENTS = 20_000_000
"""Logits that the head's loss holds at once; as in `ops/loss.py`."""

_LIBRARY_BYTES = 55 * 2**20
_COMPOSED = frozenset({"gelu_new", "gelu_fast", "quick_gelu"})
"""Activations that Transformers computes by several operations, each of which keeps its input."""

_MAGNITUDE_COPIES = 4
"""Of the largest matrix in fp32: itself, its adapter's product twice, and their sum."""

_SCORE_BYTES = 16
"""What autograd holds at once for each attention score, where attention is not fused: the score
after its cap, its fp32 probability and the rounded one, and their gradients.
"""


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
    states, six fp32 copies of what is normed, what adapters read and return in fp32, an activation
    that is made of many operations, the mask of the attention, and its scores where it is not
    fused; and the gradient of a matrix that is trained.
    """
    tokens, item = workload.micro_batch_tokens, DTYPE_BYTES[workload.dtype]
    shapes = matrices(layer)
    widths = sum(m for m, _ in shapes)
    magnitudes = [t.shape[0] for t in layer.tensors if t.added and len(t.shape) == 1]
    adapters = sum(max(t.shape) for t in layer.tensors if t.added and len(t.shape) == 2)
    largest = 0 if layer.frozen else max((m * n for m, n in shapes), default=0)
    normed = sum(
        tensor.num_elements
        for tensor in layer.tensors
        if len(tensor.shape) == 1 and not tensor.name.endswith("bias") and not tensor.added
    )
    composed = 4 * block.feed_forward_size if block.activation in _COMPOSED else 0
    token_bytes = item * (2 * widths + 10 * model.hidden_size + composed)
    token_bytes += 6 * 4 * normed + 4 * adapters
    pairs = workload.micro_batch_rows * workload.seq_length**2
    pair_bytes = 2 * item + (0 if model.attention_heads else _SCORE_BYTES * block.num_heads)
    # A matrix whose rows have a magnitude is made whole in fp32, some times over.
    whole = max((m * n for m, n in shapes), default=0) if magnitudes else 0
    matrix_bytes = item * largest + _MAGNITUDE_COPIES * 4 * whole
    return tokens * token_bytes + pair_bytes * pairs + matrix_bytes
