"""Seconds of one call: warm, the median of several, within a bound."""

import math
import statistics
import time
from collections.abc import Callable

_LEAST_BATCH_S = 0.002
"""Calls that are shorter are timed many at once, as a step makes them one after the other."""

_MOST_CALLS = 1000
_MOST_BATCHES = 9


class Stopwatch:
    """Times calls whose work may go on after they have returned.

    Args:
        wait: returns when all work that was started is done.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        wait: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._wait = wait
        self.clock = clock

    def seconds(self, work: Callable[[], object], num_calls: int = 1) -> float:
        """Return the seconds of one of `num_calls` calls in a row."""
        self._wait()
        start_s = self.clock()
        for _ in range(num_calls):
            work()
        self._wait()
        return max((self.clock() - start_s) / num_calls, 1e-9)

    def median_s(self, work: Callable[[], object], spend_s: float) -> float:
        """Return the median of several calls after one that is not counted.

        It stops when `spend_s` is spent, but at least one call is counted, so an expensive one is
        made twice.
        """
        first_s = self.seconds(work)
        num_calls = min(_MOST_CALLS, math.ceil(_LEAST_BATCH_S / first_s))
        found = [self.seconds(work, num_calls)]
        while len(found) < _MOST_BATCHES and sum(found) * num_calls < spend_s:
            found.append(self.seconds(work, num_calls))
        return statistics.median(found)
