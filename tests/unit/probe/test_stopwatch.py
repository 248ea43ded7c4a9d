import itertools

import pytest
from paced_store import FakeClock

from outsize.probe.stopwatch import Stopwatch


def test_the_first_call_is_not_counted_and_the_median_is_taken() -> None:
    clock, durations = FakeClock(), iter([9.0, 1.0, 5.0, 2.0, 99.0])
    watch = Stopwatch(clock=clock)
    assert watch.median_s(lambda: clock.pause(next(durations)), spend_s=8.0) == 2.0
    assert next(durations) == 99.0


def test_an_expensive_call_is_made_twice() -> None:
    clock, calls = FakeClock(), itertools.count(1)
    watch = Stopwatch(clock=clock)
    assert watch.median_s(lambda: clock.pause(next(calls)), spend_s=0.1) == 2.0
    assert next(calls) == 3


def test_short_calls_are_timed_many_at_once() -> None:
    clock, calls = FakeClock(), itertools.count()

    def work() -> None:
        next(calls)
        clock.pause(1e-4)

    assert Stopwatch(clock=clock).median_s(work, spend_s=0.004) == pytest.approx(1e-4)
    assert next(calls) in (41, 61)  # one to warm up, then batches of 20


def test_work_that_goes_on_after_the_call_is_waited_for() -> None:
    clock, left_s = FakeClock(), [0.0]

    def work() -> None:
        left_s[0] += 3.0

    def wait() -> None:
        clock.pause(left_s[0])
        left_s[0] = 0.0

    assert Stopwatch(wait, clock).seconds(work, num_calls=2) == 3.0


def test_no_time_at_all_is_still_a_time() -> None:
    assert Stopwatch(clock=FakeClock()).median_s(lambda: None, spend_s=1.0) > 0
