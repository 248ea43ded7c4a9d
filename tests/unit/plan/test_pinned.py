"""What is pinned never leaves while it is needed, and what cannot be pinned is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay import Slots, check_stays, lists, next_mode

from outsize.plan.residency import DoesNotFitError, moved_bytes, steady_stays
from outsize.plan.schedule import Use


def needed_bytes(slots: Slots, sizes: dict[str, int], pinned: set[str]) -> int:
    """The most that what is pinned and still needed, and what is used besides, hold at any slot."""
    live: set[str] = set()
    most = 0
    for _ in range(2):  # what is needed over the end of a period is there in the second one
        most = 0
        for slot, uses in enumerate(slots):
            live |= {use.region for use in uses if use.region in pinned}
            others = {use.region for use in uses} - live
            most = max(most, sum(sizes[region] for region in live | others))
            live -= {r for r in live if is_free_after(slots, slot, r)}
    return most


def is_free_after(slots: Slots, slot: int, region: str) -> bool:
    used = any(use.region == region for use in slots[slot])
    return used and next_mode(slots, slot, region) == "write"


@settings(deadline=None, max_examples=200)
@given(lists(), st.sets(st.sampled_from([f"r{i}" for i in range(6)])))
def test_what_is_pinned_never_moves_or_is_refused(case, pinned) -> None:
    slots, sizes, capacity_bytes = case
    needed = needed_bytes(slots, sizes, pinned)
    if needed > capacity_bytes:
        with pytest.raises(DoesNotFitError) as caught:
            steady_stays(slots, sizes, capacity_bytes, pinned.__contains__)
        assert capacity_bytes < caught.value.needed_bytes <= sum(sizes.values())
        return
    stays = steady_stays(slots, sizes, capacity_bytes, pinned.__contains__)
    check_stays(slots, stays, capacity_bytes)
    for stay in stays:
        if stay.region in pinned:
            assert not stay.write_back
            assert stay.permanent or not stay.fetch


@settings(deadline=None, max_examples=60)
@given(lists())
def test_with_nothing_pinned_nothing_changes(case) -> None:
    slots, sizes, capacity_bytes = case
    free = steady_stays(slots, sizes, capacity_bytes)
    assert steady_stays(slots, sizes, capacity_bytes, lambda region: False) == free


def test_a_pinned_region_takes_the_room_of_another() -> None:
    slots = [(Use(name, "modify"),) for name in ("a", "b", "c")]
    sizes = {"a": 1, "b": 1, "c": 1}
    for region in sizes:
        stays = steady_stays(slots, sizes, 2, region.__eq__)
        assert {s.region for s in stays if s.permanent} == {region}
        assert moved_bytes(stays) == (2, 2)
    with pytest.raises(DoesNotFitError, match="3 bytes are needed"):
        steady_stays(slots, sizes, 2, {"a", "b"}.__contains__)


def test_a_pinned_region_that_is_made_anew_gives_its_room_back() -> None:
    slots = [(Use("a", "write"),), (Use("a", "read"),), (Use("b", "write"),), (Use("b", "read"),)]
    stays = steady_stays(slots, {"a": 2, "b": 2}, 2, lambda region: True)
    assert moved_bytes(stays) == (0, 0)
    assert not any(stay.permanent for stay in stays)
