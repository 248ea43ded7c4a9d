"""A part of an embedding table: only the rows of the tokens that a batch contains.

A table has a row for every token of the vocabulary, and a step touches few of them. Fetching those
rows alone saves most of the bytes. The neighbour to read next is `embed_rows` in `layered.py`.
"""

import copy

import torch
from torch import Tensor, nn


def partial_table(table: nn.Embedding, rows: Tensor) -> nn.Embedding:
    """Return an embedding for some rows (sorted) of a table; it shares the weights of `table`.

    `nn.Embedding` gives its padding row no gradient, so the copy knows where that row is now, if it
    is there at all.
    """
    partial = copy.copy(table)
    if table.padding_idx is not None:
        position = int(torch.searchsorted(rows, table.padding_idx))
        is_there = position < len(rows) and int(rows[position]) == table.padding_idx
        partial.padding_idx = position if is_there else None
    return partial


def partial_ids(token_ids: Tensor, rows: Tensor) -> Tensor:
    """Return where each token's row is among `rows` (sorted)."""
    positions = torch.searchsorted(rows, token_ids)
    assert torch.equal(rows[positions], token_ids), "a token of the batch has no row"
    return positions
