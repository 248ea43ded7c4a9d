"""How much of a model plain PyTorch can hold: an estimate from names and shapes.

It is generous, because a process that runs out of memory is killed without a word.
"""

from outsize.errors import BudgetError, Contributor
from outsize.spec.model import LayerSpec, ModelSpec

_LIBRARY_BYTES = 700 * 2**20
"""PyTorch, Transformers, the masks and one chunk of logits."""

_PARAMETER_BYTES = {"bfloat16": 22, "float32": 24}
"""Weight, gradient, master, its gradient, two moments; in bf16 a second gradient comes and goes."""

_USABLE_FRACTION = 0.9


def plain_bytes(spec: ModelSpec, num_blocks: int, micro_batch_tokens: int, dtype: str) -> int:
    """Return what plain training of the first `num_blocks` blocks takes, activations included."""
    blocks = [layer for layer in spec.layers if layer.kind == "block"][:num_blocks]
    others = [layer for layer in spec.layers if layer.kind != "block"]
    num_elements = sum(layer.num_elements for layer in (*blocks, *others))
    saved = sum(_saved_elements(layer, spec.hidden_size) for layer in blocks) * micro_batch_tokens
    item = 2 if dtype == "bfloat16" else 4
    return _LIBRARY_BYTES + num_elements * _PARAMETER_BYTES[dtype] + saved * item


def blocks_with_room(spec: ModelSpec, micro_batch_tokens: int, dtype: str, free_bytes: int) -> int:
    """Return how many of the model's blocks plain PyTorch can train in `free_bytes`.

    Raises:
        BudgetError: not even one.
    """
    num_blocks = sum(layer.kind == "block" for layer in spec.layers)
    usable_bytes = int(free_bytes * _USABLE_FRACTION)
    for count in range(num_blocks, 0, -1):
        if plain_bytes(spec, count, micro_batch_tokens, dtype) <= usable_bytes:
            return count
    needed_bytes = plain_bytes(spec, 1, micro_batch_tokens, dtype)
    raise BudgetError(
        f"Plain PyTorch, which the comparison needs, with one layer of {spec.architecture}",
        needed_bytes=needed_bytes,
        budget_bytes=usable_bytes,
        tier="host",
        contributors=(
            Contributor(
                role="weights, gradients, masters and moments",
                size_bytes=needed_bytes - _LIBRARY_BYTES,
            ),
        ),
    )


def _saved_elements(layer: LayerSpec, hidden_size: int) -> int:
    """Elements that autograd keeps of one token: every matrix's output about twice, and a dozen
    hidden states.
    """
    rows = sum(tensor.shape[0] for tensor in layer.tensors if len(tensor.shape) > 1)
    return 2 * rows + 12 * hidden_size
