"""Which rows are taken example by example, and what the kernel is then asked for."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from outsize.models import split_attention as module
from outsize.models.split_attention import split_attention

HEADS, TOKENS, SIZE = 2, 64, 8
MODULE = SimpleNamespace(is_causal=True, num_key_value_groups=1)


def mask_of(*rows: tuple[int, ...]) -> Tensor:
    """Causal masks `[B, 1, T, T]` of rows that hold examples of so many tokens each."""
    masks = []
    for lengths in rows:
        owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        masks.append((owner[:, None] == owner).tril())
    return torch.stack(masks)[:, None]


def inputs(num_rows: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (num_rows, HEADS, TOKENS, SIZE)
    return [torch.randn(shape, generator=generator) for _ in range(3)]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Tokens of each call of the kernel, and whether it got a mask."""
    found: list[tuple[int, bool]] = []

    def record(part, query, key, value, attention_mask, **options):
        found.append((query.shape[2], attention_mask is not None))
        return sdpa_attention_forward(part, query, key, value, attention_mask, **options)

    monkeypatch.setattr(module, "sdpa_attention_forward", record)
    return found


def test_each_example_is_taken_alone_and_the_result_is_the_same(calls) -> None:
    mask = mask_of((20, 44), (64,), (1, 32, 31))
    query, key, value = inputs(3)
    expected, _ = sdpa_attention_forward(MODULE, query, key, value, mask)
    found, _ = split_attention(MODULE, query, key, value, mask)
    assert found.shape == (3, TOKENS, HEADS, SIZE)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert calls == [(n, False) for n in (20, 44, 64, 1, 32, 31)]


def not_causal() -> Tensor:
    mask = mask_of((20, 44))
    mask[0, 0, 3, 7] = True
    return mask


def windowed() -> Tensor:
    mask = mask_of((20, 44))
    near = (torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)) < 16
    return mask & near


OTHERS = {
    "a token that sees ahead": not_causal,
    "a window": windowed,
    "an additive mask": lambda: torch.zeros(1, 1, TOKENS, TOKENS),
    "many short examples": lambda: mask_of((1,) * TOKENS),
    "one mask a head": lambda: mask_of((20, 44)).expand(1, HEADS, TOKENS, TOKENS),
    "no mask": lambda: None,
}


@pytest.mark.parametrize("what", OTHERS)
def test_anything_else_goes_to_the_kernel_as_it_is(what: str, calls) -> None:
    mask = OTHERS[what]()
    query, key, value = inputs(1)
    expected, _ = sdpa_attention_forward(MODULE, query, key, value, mask)
    found, _ = split_attention(MODULE, query, key, value, mask)
    assert torch.equal(found, expected)
    assert calls == [(TOKENS, mask is not None)]


def test_a_cache_that_is_longer_than_the_tokens_gets_the_mask(calls) -> None:
    query, key, value = inputs(1)
    mask = mask_of((20, 44))[:, :, -4:]
    found, _ = split_attention(MODULE, query[:, :, -4:], key, value, mask)
    assert found.shape == (1, 4, HEADS, SIZE)
    assert calls == [(4, True)]


def test_a_mask_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    find = module._find_examples
    monkeypatch.setattr(module, "_find_examples", lambda mask: looked.append(1) or find(mask))
    mask = mask_of((20, 44))
    for _ in range(3):
        split_attention(MODULE, *inputs(1), mask)
    assert looked == [1]
