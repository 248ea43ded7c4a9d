"""Independent checkers of residency: a replay of stays, LRU, and the best that any choice could do.

Nothing in here calls the code under test; it only reads its stays.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations

from hypothesis import strategies as st

from outsize.plan.residency import Stay
from outsize.plan.schedule import Use

Slots = Sequence[tuple[Use, ...]]


@st.composite
def lists(draw: st.DrawFn, *, equal_sizes: bool = False) -> tuple[Slots, dict[str, int], int]:
    """A list of uses, sizes of its regions, and a capacity that the largest slot fits in."""
    names = [f"r{i}" for i in range(draw(st.integers(1, 6)))]
    use = st.builds(Use, st.sampled_from(names), st.sampled_from(["read", "modify", "write"]))
    slot = st.lists(use, min_size=1, max_size=3, unique_by=lambda u: u.region).map(tuple)
    slots = draw(st.lists(slot, min_size=1, max_size=9))
    size = st.just(1) if equal_sizes else st.integers(1, 5)
    sizes = {name: draw(size) for name in names}
    needed = max(sum(sizes[u.region] for u in uses) for uses in slots)
    return slots, sizes, needed + draw(st.integers(0, sum(sizes.values()) - needed + 1))


def check_stays(slots: Slots, stays: Sequence[Stay], capacity_bytes: int) -> None:
    """Assert that an endless repetition of the list runs on these stays alone."""
    count = len(slots)
    held_bytes = [0] * count
    owner: dict[tuple[str, int], Stay] = {}
    for stay in stays:
        assert 0 <= stay.start < count
        assert stay.start <= stay.first <= stay.last <= stay.stop < stay.start + count
        for slot in range(stay.start, stay.stop + 1):
            held_bytes[slot % count] += stay.size_bytes
            assert (stay.region, slot % count) not in owner, "two stays of a region at once"
            owner[stay.region, slot % count] = stay
    assert max(held_bytes) <= capacity_bytes
    for slot, uses in enumerate(slots):
        for use in uses:
            assert (use.region, slot) in owner, f"{use} at {slot} has no stay"
    for stay in stays:
        _check_content(slots, stay, owner)


def _check_content(slots: Slots, stay: Stay, owner: Mapping[tuple[str, int], Stay]) -> None:
    """What a stay begins with was saved by the stay before, and nothing moves in vain."""
    count = len(slots)
    modes = {i: u.mode for i, uses in enumerate(slots) for u in uses if u.region == stay.region}
    inside = [s for s in range(stay.start, stay.stop + 1) if s % count in modes]
    changes = [s for s in inside if modes[s % count] != "read"]
    if stay.permanent:
        assert not stay.write_back
        assert "write" not in modes.values()
        return
    assert (stay.first, stay.last) == (inside[0], inside[-1])
    assert stay.fetch == (modes[stay.first % count] != "write")
    assert stay.written == (changes[-1] if changes else None)
    following = next(s for s in range(stay.last + 1, stay.last + count + 1) if s % count in modes)
    assert stay.write_back == (bool(changes) and modes[following % count] != "write")


def lru_bytes(slots: Slots, sizes: Mapping[str, int], capacity_bytes: int) -> float:
    """Bytes read and written in a period, on average, when the least recently used leaves."""
    resident: dict[str, bool] = {}  # in order of use; whether changed
    periods, moved = 24, 0
    following = {
        (slot, use.region): next_mode(slots, slot, use.region)
        for slot, uses in enumerate(slots)
        for use in uses
    }
    for period in range(2 * periods):
        if period == periods:
            moved = 0
        for slot, uses in enumerate(slots):
            needed = {use.region for use in uses}
            missing = sum(sizes[r] for r in needed if r not in resident)
            while sum(sizes[r] for r in resident) + missing > capacity_bytes:
                victim = next(r for r in resident if r not in needed)
                moved += sizes[victim] if resident.pop(victim) else 0
            for use in uses:
                if use.region not in resident and use.mode != "write":
                    moved += sizes[use.region]
                changed = resident.pop(use.region, False) or use.mode != "read"
                resident[use.region] = changed
            for region in needed:
                if following[slot, region] == "write":
                    del resident[region]
    return moved / periods


def next_mode(slots: Slots, slot: int, region: str) -> str:
    """How the region is used next after `slot`."""
    for step in range(1, len(slots) + 1):
        for use in slots[(slot + step) % len(slots)]:
            if use.region == region:
                return use.mode
    raise AssertionError("the region is never used")


def fewest_fetches(slots: Slots, capacity: int) -> int:
    """Fewest fetches of a period over all choices of what leaves, for regions of size one; what is
    resident at the period's end must be what was resident at its start.
    """
    regions = sorted({use.region for uses in slots for use in uses})
    starts = [frozenset(c) for n in range(capacity + 1) for c in combinations(regions, n)]
    return min(found for s in starts if (found := _fetches(slots, capacity, s)) is not None)


def _fetches(slots: Slots, capacity: int, start: frozenset[str]) -> int | None:
    costs: dict[frozenset[str], int] = {start: 0}
    for uses in slots:
        needed = {use.region for use in uses}
        reached: dict[frozenset[str], int] = {}
        for resident, cost in costs.items():
            cost += sum(u.mode != "write" and u.region not in resident for u in uses)
            for kept in _subsets(frozenset(resident - needed)):
                after = kept | needed
                if len(after) <= capacity:
                    reached[after] = min(cost, reached.get(after, cost))
        costs = reached
    return min((c for after, c in costs.items() if after >= start), default=None)


@cache
def _subsets(items: frozenset[str]) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(c) for n in range(len(items) + 1) for c in combinations(items, n))
