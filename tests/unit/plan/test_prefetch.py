"""Transfers that overlap: earlier starts and later stops in room that is free."""

from hypothesis import given, settings
from hypothesis import strategies as st
from replay import check_stays, lists

from outsize.plan.prefetch import overlap_transfers
from outsize.plan.residency import steady_stays
from outsize.plan.schedule import Use

WINDOWS = st.sampled_from([0, 1, 3, 1000])


def overlapped(case, spare_bytes: int, window_bytes: int):
    slots, sizes, capacity_bytes = case
    before = steady_stays(slots, sizes, capacity_bytes)
    room_bytes = capacity_bytes + spare_bytes
    after = overlap_transfers(before, len(slots), room_bytes, (window_bytes // 2, window_bytes))
    return slots, before, after, room_bytes


@settings(deadline=None, max_examples=200)
@given(lists(), st.integers(0, 8), WINDOWS)
def test_the_list_still_runs_forever_in_the_room(case, spare_bytes, window_bytes):
    slots, _, after, room_bytes = overlapped(case, spare_bytes, window_bytes)
    check_stays(slots, after, room_bytes)


@settings(deadline=None, max_examples=200)
@given(lists(), st.integers(0, 8), WINDOWS)
def test_stays_only_grow_and_move_the_same_bytes(case, spare_bytes, window_bytes):
    slots, before, after, _ = overlapped(case, spare_bytes, window_bytes)
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        shift = new.first - old.first
        assert shift in (0, len(slots))
        assert new.start - shift <= old.start
        assert new.stop - shift >= old.stop
        assert (new.region, new.fetch, new.write_back) == (old.region, old.fetch, old.write_back)
        assert new.last - shift == old.last


@settings(deadline=None, max_examples=200)
@given(lists(), st.integers(0, 8), WINDOWS)
def test_reads_start_in_the_order_of_need_and_overtake_no_more_than_the_window(
    case, spare_bytes, window_bytes
):
    slots, before, after, _ = overlapped(case, spare_bytes, window_bytes)
    fetched = [
        (old.first, old.first - (new.first - new.start), new.size_bytes)
        for old, new in zip(before, after, strict=True)
        if new.fetch and not new.permanent
    ]
    starts = [start for _, start, _ in sorted(fetched)]
    assert starts == sorted(starts)
    count = len(slots)
    for needed, start, _ in fetched:
        overtaken_bytes = sum(
            size
            for first, _, size in fetched
            for turn in (-count, 0)
            if start < first + turn < needed
        )
        assert overtaken_bytes <= window_bytes


@settings(deadline=None, max_examples=60)
@given(lists())
def test_without_a_window_nothing_runs_ahead(case):
    _, before, after, _ = overlapped(case, 100, 0)
    assert [s.start for s in after] == [s.start for s in before]


def test_a_read_starts_as_early_as_there_is_room():
    slots = [(Use("a", "read"),), (Use("b", "read"),), (Use("b", "read"),), (Use("c", "read"),)]
    stays = steady_stays(slots, {"a": 1, "b": 1, "c": 1}, 1)
    for room_bytes, ahead in ((1, {"a": 0, "b": 0, "c": 0}), (3, {"a": 3, "b": 2, "c": 3})):
        after = overlap_transfers(stays, 4, room_bytes, (100,))
        assert {s.region: s.first - s.start for s in after} == ahead


def test_a_write_ends_as_late_as_there_is_room():
    slots = [(Use("a", "modify"),), (Use("b", "read"),), (Use("b", "read"),), (Use("b", "read"),)]
    stays = steady_stays(slots, {"a": 2, "b": 2}, 3)
    (stay,) = (s for s in overlap_transfers(stays, 4, 4, (100,)) if s.region == "a")
    assert stay.stop - stay.last == 3
