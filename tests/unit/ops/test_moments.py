import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.ops.moments import PackedMoment
from outsize.spec.moments import BLOCK_ELEMENTS, moment_bytes


def through(values: torch.Tensor, *, is_signed: bool) -> torch.Tensor:
    view = torch.zeros(moment_bytes(len(values), 8), dtype=torch.uint8)
    PackedMoment(view, len(values), is_signed=is_signed).pack(values)
    return PackedMoment(view, len(values), is_signed=is_signed).unpack()


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.integers(1, 700), st.integers(0, 2**31), st.floats(1e-25, 1e10))
def test_a_number_comes_back_within_half_a_step(
    is_signed: bool, quarters: int, seed: int, size: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(4 * quarters, generator=generator) ** 5 * size
    if not is_signed:
        values = values.abs()
    found, most = through(values, is_signed=is_signed), 127 if is_signed else 255
    for block, near in zip(values.split(BLOCK_ELEMENTS), found.split(BLOCK_ELEMENTS), strict=True):
        scale = block.abs().max().double()
        codes = (near.abs().double() / scale) ** 0.25 * most
        assert ((codes - codes.round()).abs() < 1e-3).all()
        exact = (block.abs().double() / scale) ** 0.25 * most
        # Half a step; up to one where a second moment would have become 0.
        slack = 0.501 if is_signed else torch.where(exact < 0.5, 1.001, 0.501)
        assert ((codes - exact).abs() <= slack).all()
        assert (near * block >= 0).all()


def test_a_second_moment_never_becomes_zero() -> None:
    values = torch.full((BLOCK_ELEMENTS,), 1e-18)
    values[0], values[1] = 1.0, 0.0
    found = through(values, is_signed=False)
    assert (found[2:] > 0).all()
    assert found[:2].tolist() == [1.0, 0.0]
    assert through(values, is_signed=True)[5] == 0


@pytest.mark.parametrize("is_signed", [True, False])
def test_zeros_stay_zeros(is_signed: bool) -> None:
    assert torch.equal(through(torch.zeros(1000), is_signed=is_signed), torch.zeros(1000))


@pytest.mark.parametrize("is_signed", [True, False])
def test_what_was_packed_stays_what_it_is(is_signed: bool) -> None:
    """So that a moment that nothing changes does not drift."""
    values = torch.randn(2**18 + 300, generator=torch.Generator().manual_seed(0)).abs()
    once = through(values, is_signed=is_signed)
    assert torch.equal(through(once, is_signed=is_signed), once)


def test_what_it_takes() -> None:
    assert moment_bytes(2**20, 32) == 4 * 2**20
    assert moment_bytes(2**20, 8) == 2**20 + 2**14
    assert moment_bytes(260, 8) == 260 + 8
