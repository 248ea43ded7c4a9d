"""Attention of rows that several examples share, one example at a time.

Transformers hides the examples of a packed row from each other with a mask. The fused kernel then
computes every score of the row, hidden or not, so a row of 1024 tokens costs the same whether it
holds one example or twenty. Here the attention of each example is computed alone, without a mask.
What comes out is the same but for rounding: sums are taken over other blocks of keys. It is an
option (`packed_attention="split"`), registered as an attention of its own in every model
(Transformers' `AttentionInterface`).

Shape suffixes: B rows, N heads, T tokens, D elements of a head.
"""

from collections.abc import MutableMapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "outsize_split"

_LEAST_MEAN_TOKENS = 16
"""Examples that are shorter than this on average cost more calls than they save scores."""

Spans = tuple[tuple[int, int], ...]
"""First token and first one after each example of a row."""

_EXAMPLES: MutableMapping[Tensor, tuple[Spans, ...] | None] = WeakIdKeyDictionary()
"""Of each mask that is alive, what was found in it."""


def split_attention(
    module: nn.Module,
    query_BNTD: Tensor,
    key_BNTD: Tensor,
    value_BNTD: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return the attention `[B, T, N, D]` as Transformers' own function does.

    Rows that are not examples one after the other, for example with a window of attention that is
    shorter than one of them, get the mask as it is; so do rows of very many very short ones.
    """
    rows = None if attention_mask is None else _examples(attention_mask)
    if rows is None:
        return sdpa_attention_forward(
            module, query_BNTD, key_BNTD, value_BNTD, attention_mask, **options
        )
    found = []
    for row, spans in enumerate(rows):
        parts = []
        for start, stop in spans:
            one = (t[row : row + 1, :, start:stop] for t in (query_BNTD, key_BNTD, value_BNTD))
            parts.append(sdpa_attention_forward(module, *one, None, **options)[0])
        found.append(torch.cat(parts, dim=1))
    return torch.cat(found), None


def _examples(mask: Tensor) -> tuple[Spans, ...] | None:
    """Return the examples of each row by its mask `[B, 1, T, T]`, which is looked at once; None
    where a token sees anything but its own example up to itself.
    """
    if mask not in _EXAMPLES:
        _EXAMPLES[mask] = _find_examples(mask)
    return _EXAMPLES[mask]


def _find_examples(mask: Tensor) -> tuple[Spans, ...] | None:
    if mask.dtype != torch.bool or mask.dim() != 4 or mask.shape[2] != mask.shape[3]:
        return None
    places = torch.arange(mask.shape[-1])
    starts = mask[:, 0].int().argmax(dim=-1)  # of the example that a token belongs to
    expected = (places >= starts[..., None]) & (places <= places[:, None])
    # In a window that is shorter than its example, a token's first one is not where that begins.
    begins = torch.where(starts == places, places, 0).cummax(dim=-1).values
    if mask.shape[1] != 1 or not torch.equal(mask[:, 0], expected) or not begins.equal(starts):
        return None
    rows = []
    for row in starts:
        edges = [*torch.nonzero(row == places).flatten().tolist(), len(places)]
        if len(edges) > len(places) // _LEAST_MEAN_TOKENS + 2:
            return None
        rows.append(tuple(pairwise(edges)))
    return tuple(rows)


AttentionInterface.register(NAME, split_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
