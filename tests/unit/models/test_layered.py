"""Batches, contexts and partial tables."""

import pytest
import torch
from torch import nn

from outsize.models.layered import Batch, Context, LayerCall, local_names
from outsize.models.registry import build
from outsize.models.table import partial_ids, partial_table

LLAMA = {
    "model_type": "llama",
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


def make_context(position_ids: torch.Tensor) -> Context:
    tokens = torch.zeros_like(position_ids)
    batch = Batch(input_ids=tokens, position_ids=position_ids, labels=tokens)
    return build(LLAMA, torch.bfloat16).context(batch)


def test_shared_tensors_of_a_context_count_once() -> None:
    mask, rotary = torch.zeros(8, dtype=torch.bool), torch.zeros(4)
    call = LayerCall(args=(rotary,), kwargs={"mask": mask, "pair": (rotary, [rotary]), "n": None})
    assert Context(calls=(call, call)).num_bytes() == 8 + 16


def test_whole_rows_need_no_mask() -> None:
    context = make_context(torch.arange(12)[None])
    assert len(context.calls) == 3
    assert all(call.kwargs["attention_mask"] is None for call in context.calls)


def test_packed_rows_have_a_block_diagonal_mask_shared_by_all_layers() -> None:
    context = make_context(torch.tensor([[0, 1, 2, 0, 1]]))
    masks = [call.kwargs["attention_mask"] for call in context.calls]
    seen = torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)).tril().bool()
    expected = torch.zeros(5, 5, dtype=masks[0].dtype).masked_fill(~seen, -torch.inf)
    assert torch.equal(masks[0][0, 0], expected)
    assert all(mask is masks[0] for mask in masks)


@pytest.mark.parametrize(("rows", "padding"), [([1, 4, 6], 1), ([0, 5], None), ([0, 2, 3], None)])
def test_partial_table_knows_where_the_padding_row_is(rows, padding) -> None:
    table = nn.Embedding(8, 2, padding_idx=4)
    assert partial_table(table, torch.tensor(rows)).padding_idx == padding
    assert table.padding_idx == 4


def test_a_token_without_a_row_is_a_bug_of_the_caller() -> None:
    rows = torch.tensor([2, 5, 9])
    assert partial_ids(torch.tensor([9, 2]), rows).tolist() == [2, 0]
    with pytest.raises(AssertionError, match="a token of the batch has no row"):
        partial_ids(torch.tensor([4]), rows)


def test_local_names_match_whole_components() -> None:
    one, ten = torch.zeros(1), torch.zeros(10)
    assert local_names({"layers.1.a": one, "layers.10.a": ten}, "layers.1") == {"a": one}
