"""Offsets: nothing that is there at the same time overlaps."""

from dataclasses import replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.plan.memory import peak_bytes, place
from outsize.plan.residency import Stay

COUNT = 9


@st.composite
def some_stays(draw: st.DrawFn) -> Stay:
    start = draw(st.integers(0, COUNT - 1))
    stop = start + draw(st.integers(0, COUNT - 1))
    permanent = draw(st.booleans()) and draw(st.booleans())
    if permanent:
        start, stop = 0, COUNT - 1
    return Stay(
        region="any",
        size_bytes=4096 * draw(st.integers(1, 6)),
        first=start,
        last=stop,
        fetch=True,
        written=None,
        write_back=False,
        permanent=permanent,
        start=start,
        stop=stop,
    )


def held_slots(stay: Stay) -> set[int]:
    return {slot % COUNT for slot in range(stay.start, stay.stop + 1)}


def held_peak_bytes(stays: list[Stay]) -> int:
    return max(
        (sum(s.size_bytes for s in stays if slot in held_slots(s)) for slot in range(COUNT)),
        default=0,
    )


@settings(deadline=None, max_examples=200)
@given(st.lists(some_stays(), max_size=12))
def test_stays_that_meet_lie_apart(stays):
    placement = place(stays, COUNT)
    assert placement.stays == tuple(stays)
    placed = list(zip(stays, placement.offsets_bytes, strict=True))
    for (one, low), (other, high) in combinations(placed, 2):
        if held_slots(one) & held_slots(other):
            assert low + one.size_bytes <= high or high + other.size_bytes <= low


@settings(deadline=None, max_examples=200)
@given(st.lists(some_stays(), max_size=12))
def test_the_arena_holds_all_and_no_less_than_the_peak(stays):
    placement = place(stays, COUNT)
    ends = [o + s.size_bytes for s, o in zip(stays, placement.offsets_bytes, strict=True)]
    assert placement.arena_bytes == max(ends, default=0)
    assert peak_bytes(stays, COUNT) == held_peak_bytes(stays) <= placement.arena_bytes
    assert all(offset % 4096 == 0 for offset in placement.offsets_bytes)
    assert placement.arena_bytes <= sum(stay.size_bytes for stay in stays)


def test_a_stay_over_the_end_of_the_period_meets_one_at_its_start():
    stay = Stay(
        region="late", size_bytes=4096, first=7, last=10, fetch=True, written=None,
        write_back=False, start=7, stop=10,
    )  # fmt: skip
    early = replace(stay, region="early", first=1, last=1, start=1, stop=1)
    later = replace(stay, region="later", first=2, last=2, start=2, stop=2)
    assert place([stay, early], COUNT).arena_bytes == 8192
    assert place([stay, later], COUNT).arena_bytes == 4096
