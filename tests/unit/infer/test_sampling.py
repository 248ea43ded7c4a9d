"""Sampling against Transformers' own warpers and against the probabilities themselves."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from outsize.infer.sampling import choose_token, keep_top_k, keep_top_p

GREEDY = {"temperature": 0.0, "top_k": 0, "top_p": 1.0}


def logits(seed: int, size: int = 50) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3


def choose(scores: torch.Tensor, seed: int = 0, **options: float) -> int:
    generator = torch.Generator().manual_seed(seed)
    return choose_token(scores, generator=generator, **GREEDY | options)


@given(seed=st.integers(0, 999), top_k=st.integers(1, 60))
def test_top_k_equals_that_of_transformers(seed: int, top_k: int) -> None:
    scores = logits(seed)
    assert torch.equal(keep_top_k(scores, top_k), TopKLogitsWarper(top_k)(None, scores[None])[0])


@given(seed=st.integers(0, 999), top_p=st.floats(0.01, 0.999))
def test_top_p_equals_that_of_transformers(seed: int, top_p: float) -> None:
    scores = logits(seed)
    assert torch.equal(keep_top_p(scores, top_p), TopPLogitsWarper(top_p)(None, scores[None])[0])


def test_zero_and_one_keep_everything() -> None:
    scores = logits(1)
    assert torch.equal(keep_top_p(keep_top_k(scores, 0), 1.0), scores)


def test_equal_scores_at_the_edge_all_stay() -> None:
    kept = keep_top_k(torch.tensor([1.0, 1.0, 0.0, 1.0]), 2)
    assert kept.tolist() == [1.0, 1.0, -torch.inf, 1.0]


def test_temperature_zero_takes_the_likeliest() -> None:
    scores = logits(2)
    assert choose(scores) == int(scores.argmax())
    assert choose(scores, temperature=5.0, top_k=1) == int(scores.argmax())
    assert choose(scores, temperature=5.0, top_p=1e-6) == int(scores.argmax())


def test_the_seed_decides() -> None:
    scores = logits(3)
    first = [choose(scores, seed, temperature=1.0) for seed in range(20)]
    assert first == [choose(scores, seed, temperature=1.0) for seed in range(20)]
    assert len(set(first)) > 3


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(0.7, 0, 1.0), (1.5, 5, 0.8)])
def test_tokens_come_as_often_as_they_are_likely(
    temperature: float, top_k: int, top_p: float
) -> None:
    scores = logits(4, size=8)
    warped = TemperatureLogitsWarper(temperature)(None, scores[None])
    warped = TopKLogitsWarper(top_k)(None, warped) if top_k else warped
    warped = TopPLogitsWarper(top_p)(None, warped) if top_p < 1 else warped
    expected = torch.distributions.Categorical(logits=warped[0]).probs
    generator = torch.Generator().manual_seed(9)
    drawn = [
        choose_token(scores, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
        for _ in range(4000)
    ]
    found = torch.bincount(torch.tensor(drawn), minlength=8) / len(drawn)
    assert not found[expected == 0].any()
    assert float((found - expected).abs().max()) < 0.03
