import pytest
from paced_store import FakeClock, PacedLane

from outsize.errors import StorageError
from outsize.probe.traffic import Background, Traffic, fill, rate_alone, rates_together
from outsize.store.null import NullStore
from outsize.store.store import place_extents

_MIB = 2**20


def _buffer(size_bytes: int = 16 * _MIB) -> memoryview:
    return memoryview(bytes(size_bytes))


def test_the_rate_of_one_direction_is_that_of_the_drive() -> None:
    clock = FakeClock()
    lane = PacedLane(clock, 1e9)
    traffic = Traffic(lane.start, ["a", "b"], _buffer())
    assert rate_alone(traffic, 1.0, 2**40, clock) == pytest.approx(1e9)
    assert lane.started[:3] == ["a", "b", "a"]
    assert lane.most_queued == 3
    assert lane.idle
    assert clock.now_s < 1.1


def test_bytes_end_a_pass_before_its_time() -> None:
    clock = FakeClock()
    lane = PacedLane(clock, 1e9)
    assert rate_alone(Traffic(lane.start, ["a"], _buffer()), 60.0, 64 * _MIB, clock) > 0
    assert 4 <= len(lane.started) <= 8


def test_small_transfers_are_queued_by_the_hundred() -> None:
    clock = FakeClock()
    lane = PacedLane(clock, 1e9)
    rate_alone(Traffic(lane.start, ["a"], _buffer(2**16)), 0.1, 2**40, clock)
    assert lane.most_queued == 128


def test_filling_moves_each_extent_once_and_stops_on_a_slow_drive() -> None:
    clock = FakeClock()
    names = [str(number) for number in range(20)]
    fast, slow = PacedLane(clock, 1e12), PacedLane(clock, 16 * _MIB)
    assert fill(Traffic(fast.start, names, _buffer()), 20, 1.0, clock) == 20
    assert fast.started == names
    assert fill(Traffic(slow.start, names, _buffer()), 20, 2.0, clock) == 5
    assert slow.started == names[:5]
    assert slow.idle


def test_both_directions_are_kept_busy_however_unlike_they_are() -> None:
    clock = FakeClock()
    reads, writes = PacedLane(clock, 3e9), PacedLane(clock, 2e8)
    rates = rates_together(
        Traffic(reads.start, ["r"], _buffer()),
        Traffic(writes.start, ["w"], _buffer()),
        4.0,
        clock,
        clock.pause,
    )
    assert rates == pytest.approx((3e9, 2e8), rel=0.1)
    assert reads.idle
    assert writes.idle


def test_a_very_slow_drive_gets_the_time_that_it_needs() -> None:
    clock = FakeClock()
    reads, writes = PacedLane(clock, 4e6), PacedLane(clock, 2e6)
    rates = rates_together(
        Traffic(reads.start, ["r"], _buffer()),
        Traffic(writes.start, ["w"], _buffer()),
        1.0,
        clock,
        clock.pause,
    )
    assert rates == pytest.approx((4e6, 2e6), rel=0.5)


def test_a_transfer_that_fails_is_told_and_the_others_end() -> None:
    clock = FakeClock()
    reads, writes = PacedLane(clock, 1e9), PacedLane(clock, 1e9, fails_at=5)
    with pytest.raises(StorageError, match="the drive failed"):
        rates_together(
            Traffic(reads.start, ["r"], _buffer()),
            Traffic(writes.start, ["w"], _buffer()),
            1.0,
            clock,
            clock.pause,
        )


def _null() -> tuple[NullStore, Traffic, Traffic]:
    store = NullStore(place_extents([("r", _MIB), ("w", _MIB)]))
    buffer = _buffer(_MIB)
    reads = Traffic(store.start_read, ["r"], memoryview(bytearray(_MIB)))
    return store, reads, Traffic(store.start_write, ["w"], buffer)


def test_the_background_moves_bytes_while_something_else_runs() -> None:
    store, reads, writes = _null()
    with Background(reads, writes) as background:
        while background.finished_bytes < 64 * _MIB:
            pass
    counters = store.counters()
    assert background.finished_bytes == counters.bytes_read + counters.bytes_written
    assert counters.bytes_read > 0
    assert counters.bytes_written > 0


def test_the_background_ends_with_the_drives_error() -> None:
    clock = FakeClock()
    broken = PacedLane(clock, 1e30, fails_at=1)
    _, reads, _ = _null()
    with (
        pytest.raises(StorageError, match="the drive failed"),
        Background(reads, Traffic(broken.start, ["w"], _buffer(_MIB))),
    ):
        clock.pause(1.0)


def test_an_error_of_the_arithmetic_is_not_hidden_by_one_of_the_drive() -> None:
    broken = PacedLane(FakeClock(), 1e30, fails_at=1)
    _, reads, _ = _null()
    with (
        pytest.raises(ZeroDivisionError),
        Background(reads, Traffic(broken.start, ["w"], _buffer(_MIB))),
    ):
        raise ZeroDivisionError
