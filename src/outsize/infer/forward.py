"""One pass of tokens through all layers, with the keys and values of the tokens before them.

Shape suffixes: T tokens of the pass, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from outsize.infer.weights import Weights
from outsize.models.decoder import Decoder
from outsize.models.layered import Batch


def make_batch(ids: Sequence[int], position: int) -> Batch:
    """Return one row of tokens whose first one is at `position`."""
    ids_T = torch.tensor([ids])
    positions_T = torch.arange(position, position + len(ids))[None]
    return Batch(input_ids=ids_T, position_ids=positions_T, labels=ids_T)


@torch.inference_mode()
def next_logits(decoder: Decoder, weights: Weights, batch: Batch, cache: Cache) -> Tensor:
    """Return the logits `[V]` in fp32 of the token after the last one of `batch`.

    The keys and values of the batch are added to `cache`.

    Cost: the largest layer's temporaries; reads every layer that does not stay in memory.
    """
    assert decoder.token_table is not None
    rows = batch.input_ids.unique()
    embedding = weights.parameters(0) | {decoder.token_table: weights.table_rows(rows)}
    hidden = decoder.embed_rows(embedding, batch, rows)
    context = decoder.context(batch, cache)
    last = len(decoder.spec.layers) - 1
    for index in range(1, last):
        hidden = decoder.block(index, weights.parameters(index), hidden, context)
    return decoder.logits(weights.parameters(last), hidden[:, -1:])[0, 0].float()
