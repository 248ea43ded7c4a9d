"""Greedy generation layer by layer equals Transformers' `generate`, for every architecture.

With weights that stay, that pass through one slot, and some of each; sliding windows are shorter
than the text.
"""

from collections.abc import Collection

import pytest
import torch
from test_models import VARIANTS, make_case

from outsize.formats.source import Float32Array
from outsize.infer.forward import make_batch, next_logits
from outsize.infer.room import arena_bytes
from outsize.infer.weights import Weights
from outsize.models.decoder import Decoder
from outsize.store.arena import HostArena

PROMPT = [7, 11, 3, 5, 29, 8, 8, 21, 40]
NUM_NEW = 7
"""Short enough for the long rope, whose position embedding changes after 16 tokens."""


class ModuleSource:
    """A weight source over a whole model in memory."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.values = {n: p.detach().float().view(-1) for n, p in module.named_parameters()}

    def read(self, name: str, start: int, stop: int) -> Float32Array:
        return self.values[name][start:stop].numpy()


def generate(decoder: Decoder, source: ModuleSource, resident: Collection[int]) -> list[int]:
    weights = Weights(decoder.spec, source, decoder.token_table, decoder.dtype)
    weights.place(HostArena(arena_bytes(weights.layer_bytes, resident)), resident)
    cache, fed, position, answer = decoder.new_cache(), PROMPT, 0, []
    for _ in range(NUM_NEW):
        logits = next_logits(decoder, weights, make_batch(fed, position), cache)
        position += len(fed)
        fed = [int(logits.argmax())]
        answer += fed
    return answer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_tokens_equal_those_of_transformers(variant: str, dtype: torch.dtype) -> None:
    case = make_case(variant, dtype, packed=False)
    case.plain.generation_config.eos_token_id = None
    ids = torch.tensor([PROMPT])
    expected = case.plain.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NUM_NEW,
        do_sample=False,
        pad_token_id=0,
    )
    source, last = ModuleSource(case.plain), len(case.layered.spec.layers) - 1
    for resident in (range(last + 1), (), (0, 2, last)):
        assert generate(case.layered, source, resident) == expected[0, len(PROMPT) :].tolist()
