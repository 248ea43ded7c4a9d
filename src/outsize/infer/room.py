"""How much memory is left for weights, and which layers it keeps.

What the prompt's pass takes besides weights is measured on layers of zeros, which cost nothing
themselves. Every byte that stays saves the same reading, so layers are kept by size alone: the
largest first, because the slot for the others must hold the largest of them.
"""

from collections.abc import Collection, Sequence

import torch

from outsize.errors import BudgetError, Contributor, Remedy
from outsize.infer.forward import make_batch
from outsize.infer.weights import Weights
from outsize.models.decoder import Decoder
from outsize.quantities import align_up
from outsize.store.arena import HostArena
from outsize.store.budget import resident_bytes
from outsize.store.heap import drop_file_pages

_SLACK_BYTES = 64 * 2**20
"""What is not measured: one conversion chunk, Python objects, gaps in the heap, and the pages of
library code that later tokens need and the profile did not.
"""

_CACHE_COPIES = 2
"""Keys and values grow by copying, which leaves gaps of their size in the heap."""

_FIRST_USE_BYTES = 24 * 2**20
"""Code and workspaces that PyTorch touches when layers run for the first time."""

_REMEDY_STEP_BYTES = 8 * 2**20


def make_room(
    decoder: Decoder,
    weights: Weights,
    *,
    num_prompt_tokens: int,
    num_tokens: int,
    budget_bytes: int,
    reading_bytes: int,
    subject: str,
) -> tuple[int, ...]:
    """Decide which layers stay, and place them in an arena of their size.

    Args:
        decoder: the model.
        weights: its weights, placed on return but not loaded.
        num_prompt_tokens: tokens of the first pass.
        num_tokens: tokens of the prompt and the longest answer.
        budget_bytes: for the whole process.
        reading_bytes: what reading the weights takes beyond a few chunks, as of adapters.
        subject: what is refused, for the message.

    Returns:
        The layers that stay.

    Raises:
        BudgetError: not even one layer at a time fits.
    """
    sizes = weights.layer_bytes
    drop_file_pages()
    needs = {"interpreter and libraries": resident_bytes(), "largest layer": max(sizes)}
    estimate = needs | _estimate(decoder, num_prompt_tokens, num_tokens)
    if sum(needs.values()) + _least_temporaries_bytes(decoder, num_prompt_tokens) > budget_bytes:
        raise _refusal(budget_bytes, estimate, subject)
    cache_token_bytes = _profile(decoder, weights, num_prompt_tokens)
    needs |= {
        "temporaries": resident_bytes() - needs["interpreter and libraries"],
        "keys and values": _CACHE_COPIES * num_tokens * cache_token_bytes,
        "slack": _SLACK_BYTES + reading_bytes,
    }
    if sum(needs.values()) > budget_bytes:
        raise _refusal(budget_bytes, needs, subject)
    resident = choose_resident(sizes, budget_bytes - sum(needs.values()) + max(sizes))
    weights.place(HostArena(arena_bytes(sizes, resident)), resident)
    return resident


def choose_resident(sizes: Sequence[int], room_bytes: int) -> tuple[int, ...]:
    """Return the layers that stay in `room_bytes`, which is enough for the largest alone."""
    assert max(sizes) <= room_bytes
    resident: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if arena_bytes(sizes, [*resident, index]) <= room_bytes:
            resident.append(index)
    return tuple(sorted(resident))


def arena_bytes(sizes: Sequence[int], resident: Collection[int]) -> int:
    """Return the bytes of the resident layers and of a slot for the largest other one."""
    others = [size for index, size in enumerate(sizes) if index not in resident]
    return sum(sizes[index] for index in resident) + max(others, default=0)


@torch.inference_mode()
def _profile(decoder: Decoder, weights: Weights, num_tokens: int) -> int:
    """Run one layer of each kind on `num_tokens` tokens and return the cache's bytes a token.

    Cost: the pages that a pass of that length takes besides weights; the heap keeps them.
    """
    arena = HostArena(max(weights.layer_bytes))  # untouched, so it reads as zeros and takes nothing
    weights.place(arena, ())
    batch, cache = make_batch([0] * num_tokens, 0), decoder.new_cache()
    context = decoder.context(batch, cache)
    hidden = torch.zeros(1, num_tokens, decoder.spec.hidden_size, dtype=decoder.dtype)
    kinds = {layer.signature: index for index, layer in enumerate(decoder.spec.layers)}
    last = len(decoder.spec.layers) - 1
    for index in kinds.values():
        if 0 < index < last:
            decoder.block(index, weights.views(index), hidden, context)
    decoder.logits(weights.views(last), hidden[:, -1:]).float().sort()
    filled = [layer for layer in cache.layers if layer.is_initialized]
    largest_bytes = max(layer.keys.nbytes + layer.values.nbytes for layer in filled)
    arena.close()
    return -(-largest_bytes * (last - 1) // num_tokens)


def _least_temporaries_bytes(decoder: Decoder, num_tokens: int) -> int:
    """Return what the projections of one block give, which is known without running it."""
    width = max(
        sum(t.shape[0] for t in layer.tensors if len(t.shape) > 1)
        for layer in decoder.spec.layers[1:-1]
    )
    return num_tokens * width * decoder.dtype.itemsize


def _estimate(decoder: Decoder, num_prompt_tokens: int, num_tokens: int) -> dict[str, int]:
    """Return a generous guess of what is measured later, for a refusal before anything is run."""
    spec, item_bytes = decoder.spec, decoder.dtype.itemsize
    width = max(spec.hidden_size, spec.attention_heads * spec.attention_head_size)
    cache_bytes = 2 * width * item_bytes * (len(spec.layers) - 2) * num_tokens
    temporaries_bytes = 4 * _least_temporaries_bytes(decoder, num_prompt_tokens)
    return {
        "temporaries": temporaries_bytes + 4 * spec.vocab_size * item_bytes + _FIRST_USE_BYTES,
        "keys and values": _CACHE_COPIES * cache_bytes,
        "slack": _SLACK_BYTES,
    }


def _refusal(budget_bytes: int, needs: dict[str, int], subject: str) -> BudgetError:
    needed_bytes = sum(needs.values())
    remedy_bytes = align_up(needed_bytes + _REMEDY_STEP_BYTES, _REMEDY_STEP_BYTES)
    return BudgetError(
        subject,
        needed_bytes=needed_bytes,
        budget_bytes=budget_bytes,
        tier="host",
        contributors=tuple(Contributor(role=r, size_bytes=n) for r, n in needs.items()),
        remedies=(
            Remedy(change=f"--memory {remedy_bytes // 2**20}MiB", needed_bytes=needed_bytes),
        ),
    )
