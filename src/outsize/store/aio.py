"""Lanes: a few threads that move pieces while the main thread computes.

A transfer is cut into pieces; the lane's threads take them first come, first served. `os.preadv`,
`os.pwritev` and the hash release the interpreter lock, so plain threads are enough. Nothing here
knows of files: see `transfer.py` for what a piece is and `disk.py` for the function that moves it.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from outsize.store.transfer import LaneTransfer


class Lane:
    """Threads that serve transfers in one direction, in the order of their submission.

    Guarantees: pieces start in the order of submission; after a failed transfer the next ones are
    served as before.

    Args:
        name: what the threads are called.
        num_threads: pieces in flight at the same time. Two keep the drive busy while one of them
            hashes or is between system calls; the drives measured gain nothing from more.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self, name: str, *, num_threads: int = 2, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._pieces: SimpleQueue[tuple[LaneTransfer, int] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._moved_bytes = 0
        self._busy_s = 0.0
        self._busy_since_s = 0.0
        self._num_in_service = 0
        self._closed = False
        # The only threads of a store. A store has one read lane and one write lane, so that reads
        # overlap with writes and both with compute on the main thread. Daemons: a run that dies
        # must not hang on a queue of writes that no commit record will ever name.
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{number}", daemon=True)
            for number in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, transfer: LaneTransfer) -> None:
        """Queue all pieces of a transfer and return at once."""
        assert not self._closed, "a lane that was closed takes no transfers"
        for index in range(transfer.num_pieces):
            self._pieces.put((transfer, index))

    def moved(self) -> tuple[int, float]:
        """Return the bytes moved so far and the seconds with at least one piece in service."""
        with self._lock:
            running_s = self._clock() - self._busy_since_s if self._num_in_service else 0.0
            return self._moved_bytes, self._busy_s + running_s

    def close(self) -> None:
        """Serve what was submitted, then end the threads."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads:
            self._pieces.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while (work := self._pieces.get()) is not None:
            transfer, index = work
            self._enter(transfer)
            moved_bytes = transfer.run_piece(index)
            self._leave(transfer, moved_bytes)

    def _enter(self, transfer: LaneTransfer) -> None:
        with self._lock:
            now_s = self._clock()
            if transfer.started_s is None:
                transfer.started_s = now_s
            if self._num_in_service == 0:
                self._busy_since_s = now_s
            self._num_in_service += 1

    def _leave(self, transfer: LaneTransfer, moved_bytes: int) -> None:
        with self._lock:
            now_s = self._clock()
            self._moved_bytes += moved_bytes
            self._num_in_service -= 1
            if self._num_in_service == 0:
                self._busy_s += now_s - self._busy_since_s
            transfer.num_finished += 1
            is_last = transfer.num_finished == transfer.num_pieces
        if is_last:
            transfer.finish(now_s)
