import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.ops.packing import NF4_LEVELS, PackedMatrix
from outsize.spec.packing import BLOCK_ELEMENTS, GROUP_ELEMENTS, PackedPlace
from outsize.values import Packing

PACKINGS: tuple[Packing, ...] = ("nf4", "int8")


def packed(values: torch.Tensor, packing: Packing, chunk: int = 2**40) -> tuple[PackedMatrix, int]:
    place = PackedPlace(packing=packing, num_elements=len(values), start=64)
    matrix = PackedMatrix(torch.zeros(place.stop + 64, dtype=torch.uint8), place)
    for start in range(0, len(values), chunk):
        matrix.pack(start, values[start : start + chunk])
    return matrix, place.stop - place.start


def unpacked(values: torch.Tensor, packing: Packing, dtype: torch.dtype = torch.float32):
    out = torch.full((len(values),), torch.nan, dtype=dtype)
    packed(values, packing)[0].unpack(out)
    return out


def nearest(values: torch.Tensor, packing: Packing) -> torch.Tensor:
    """The nearest number that a block with the exact scale can hold, block after block."""
    levels = torch.tensor(NF4_LEVELS) if packing == "nf4" else torch.arange(-127, 128) / 127
    found = []
    for block in values.split(BLOCK_ELEMENTS):
        shares = block / block.abs().max()
        found.append(levels[(shares[:, None] - levels).abs().argmin(1)] * block.abs().max())
    return torch.cat(found)


@pytest.mark.parametrize("packing", PACKINGS)
def test_normal_numbers_come_back_nearly_as_with_exact_scales(packing: Packing) -> None:
    torch.manual_seed(0)
    values = torch.randn(3 * GROUP_ELEMENTS + 777) * 0.02
    ours = (unpacked(values, packing) - values).norm() / values.norm()
    best = (nearest(values, packing) - values).norm() / values.norm()
    assert best <= ours <= 1.02 * best
    assert ours < {"nf4": 0.1, "int8": 0.006}[packing]


@pytest.mark.parametrize(("packing", "bits"), [("nf4", 4.13), ("int8", 8.13)])
def test_what_it_takes(packing: Packing, bits: float) -> None:
    size = packed(torch.randn(4 * GROUP_ELEMENTS), packing)[1]
    assert 8 * size / (4 * GROUP_ELEMENTS) < bits


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(PACKINGS),
    st.integers(1, 3 * GROUP_ELEMENTS),
    st.integers(0, 2**31),
    st.floats(1e-30, 1e30),
)
def test_any_number_stays_close(packing: Packing, count: int, seed: int, size: float) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(seed)) * size
    values[values.abs() < 0.3 * size] = 0
    found = unpacked(values, packing)
    assert found.isfinite().all()
    step = {"nf4": 0.16, "int8": 0.004}[packing]
    for block, near in zip(values.split(64), found.split(64), strict=True):
        # A block's scale is at most 1/255 of its group's largest number too large.
        slack = block.abs().max() * step + values.abs().max() / 255
        assert ((block - near).abs() <= slack).all()


@pytest.mark.parametrize("packing", PACKINGS)
def test_zeros_stay_zeros_and_one_number_stays_what_it_is(packing: Packing) -> None:
    assert torch.equal(unpacked(torch.zeros(200), packing), torch.zeros(200))
    values = torch.zeros(BLOCK_ELEMENTS + 1)
    values[3], values[-1] = -2.5, -2.5
    assert torch.equal(unpacked(values, packing), values)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(packing: Packing, bad: float) -> None:
    values = torch.randn(500)
    values[77] = bad
    with pytest.raises(ValueError, match="not finite"):
        packed(values, packing)


@pytest.mark.parametrize("packing", PACKINGS)
def test_numbers_too_small_for_a_scale_become_zeros(packing: Packing) -> None:
    assert torch.equal(unpacked(torch.full((200,), 1e-44), packing), torch.zeros(200))


@pytest.mark.parametrize("packing", PACKINGS)
def test_chunks_change_nothing(packing: Packing) -> None:
    values = torch.randn(3 * GROUP_ELEMENTS + 31, generator=torch.Generator().manual_seed(1))
    out = torch.empty(len(values))
    packed(values, packing, chunk=GROUP_ELEMENTS)[0].unpack(out)
    assert torch.equal(out, unpacked(values, packing))


@pytest.mark.parametrize("packing", PACKINGS)
def test_numbers_are_rounded_once(packing: Packing) -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(2))
    exact = unpacked(values, packing)
    assert torch.equal(unpacked(values, packing, torch.bfloat16), exact.bfloat16())
