"""Transfers without end in one direction, for as long as something is measured.

Both directions together are kept going by `keep_both_going`, beside arithmetic by the thread of
`Background`. They see only the store's contract, so tests drive them with a store on a made-up
clock.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import cycle
from types import TracebackType
from typing import Self

from outsize.store.store import Transfer

_LEAST_QUEUED = 3
_QUEUED_BYTES = 8 * 2**20
_PAUSE_S = 0.001
"""Between looks at the queues; at 7 GB/s a queue of large transfers lasts seven times as long."""


class Traffic:
    """Transfers of one size in one direction, one after the other, several of them queued.

    Args:
        start: `start_read` or `start_write` of a store.
        extents: names of the extents, taken in turn.
        buffer: what all of them move.

    Attributes:
        buffer_bytes: bytes of one transfer.
        finished_bytes: moved by transfers that have ended; one thread writes it.
        num_started: transfers that were started.
    """

    def __init__(
        self,
        start: Callable[[str, memoryview], Transfer],
        extents: Sequence[str],
        buffer: memoryview,
    ) -> None:
        self.buffer_bytes = buffer.nbytes
        self.finished_bytes = 0
        self.num_started = 0
        self._start = start
        self._extents = cycle(extents)
        self._buffer = buffer
        self._num_queued = max(_LEAST_QUEUED, _QUEUED_BYTES // buffer.nbytes)
        self._pending: deque[Transfer] = deque()

    def feed(self, most: int | None = None) -> None:
        """Take out what has ended and fill the queue, with at most `most` started in all.

        Raises:
            StorageError: a transfer failed.
        """
        while self._pending and self._pending[0].done:
            self.finish_one()
        while len(self._pending) < self._num_queued:
            if most is not None and self.num_started >= most:
                return
            self._pending.append(self._start(next(self._extents), self._buffer))
            self.num_started += 1

    def finish_one(self) -> None:
        """Wait for the oldest transfer.

        Raises:
            StorageError: it failed.
        """
        self.finished_bytes += self._pending.popleft().wait().size_bytes

    def drain(self) -> None:
        """Wait for all transfers.

        Raises:
            StorageError: one of them failed.
        """
        while self._pending:
            self.finish_one()


Clock = Callable[[], float]
Pause = Callable[[float], object]


def fill(traffic: Traffic, num_transfers: int, most_s: float, clock: Clock) -> int:
    """Move each of the first `num_transfers` once; return how many it were in `most_s`."""
    end_s = clock() + most_s
    traffic.feed(num_transfers)
    while traffic.num_started < num_transfers and clock() < end_s:
        traffic.finish_one()
        traffic.feed(num_transfers)
    traffic.drain()
    return traffic.num_started


def rate_alone(traffic: Traffic, most_s: float, most_bytes: int, clock: Clock) -> float:
    """Return the bytes a second of one direction while nothing else goes on."""
    start_s, start_bytes = clock(), traffic.finished_bytes
    while True:
        traffic.feed()
        traffic.finish_one()
        moved_bytes = traffic.finished_bytes - start_bytes
        if moved_bytes >= most_bytes or clock() - start_s >= most_s:
            break
    traffic.drain()
    return (traffic.finished_bytes - start_bytes) / max(clock() - start_s, 1e-6)


def rates_together(
    reads: Traffic, writes: Traffic, seconds: float, clock: Clock, pause: Pause
) -> tuple[float, float]:
    """Return the bytes a second of reads and of writes while both go on all the time.

    A quarter of `seconds` passes first, so that caches of the drive are as full as in a long run.
    On a slow drive it takes longer: each direction finishes two transfers at least.
    """
    both = (reads, writes)
    try:
        keep_both_going(both, clock() + seconds / 4, lambda: True, clock, pause)
        start_s, start_bytes = clock(), [one.finished_bytes for one in both]
        least = [start + 2 * one.buffer_bytes for start, one in zip(start_bytes, both, strict=True)]

        def enough() -> bool:
            return all(one.finished_bytes >= n for one, n in zip(both, least, strict=True))

        keep_both_going(both, start_s + seconds, enough, clock, pause)
        spent_s = max(clock() - start_s, 1e-6)
        moved = [one.finished_bytes - n for one, n in zip(both, start_bytes, strict=True)]
    finally:
        for one in both:
            one.drain()
    return moved[0] / spent_s, moved[1] / spent_s


def keep_both_going(
    both: tuple[Traffic, Traffic],
    until_s: float,
    enough: Callable[[], bool],
    clock: Clock,
    pause: Pause,
) -> None:
    """Keep the queues filled until a time, and until there is enough."""
    while clock() < until_s or not enough():
        for one in both:
            one.feed()
        pause(_PAUSE_S)


class Background:
    """Keeps both directions going on a thread of its own, inside a `with` block."""

    def __init__(self, reads: Traffic, writes: Traffic) -> None:
        self._both = (reads, writes)
        self._going = threading.Event()
        self._stop = threading.Event()
        self._error: Exception | None = None
        # Starts and ends all transfers, so that they go on while the main thread computes.
        self._thread = threading.Thread(target=self._run, name="probe-traffic", daemon=True)

    @property
    def finished_bytes(self) -> int:
        """Bytes of both directions so far."""
        return sum(one.finished_bytes for one in self._both)

    def __enter__(self) -> Self:
        self._thread.start()
        self._going.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for one in self._both:
                    one.feed()
                self._going.set()
                time.sleep(_PAUSE_S)
            for one in self._both:
                one.drain()
        except Exception as error:
            self._error = error
        finally:
            self._going.set()
