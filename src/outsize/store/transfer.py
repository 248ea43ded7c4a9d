"""One buffer on its way through a lane, piece by piece.

The pieces of a transfer run on several threads and may end out of order; the last one to end
computes the checksum, sets the result and wakes who waits. `aio.py` has the threads, `disk.py` the
function that moves one piece.
"""

import threading
import traceback
from collections.abc import Callable

from outsize.store.checksum import BLOCK_BYTES, block_digest, combine_digests
from outsize.store.store import TransferResult

MovePiece = Callable[[memoryview, int], None]
"""Moves one piece to or from the given offset of the file, whole, or raises."""

PIECE_BYTES = 4 * BLOCK_BYTES
"""What one system call moves. A thread that wakes between two pieces stops one of the threads that
compute, and the others wait for it: in pieces of 4 MiB a step took 7 % longer.
"""


class LaneTransfer:
    """One buffer on its way through a lane. A `Transfer`; made by the store, run by the lane.

    Args:
        move_piece: moves one piece.
        buffer: what is moved; no reference to it is kept once the transfer has ended.
        offset_bytes: offset of its first byte in the file.
        want_checksum: whether the result carries the checksum.
        verify: called with the checksum when all pieces have moved; raises to fail the transfer.
            None: not verified.
    """

    def __init__(
        self,
        move_piece: MovePiece,
        buffer: memoryview,
        offset_bytes: int,
        *,
        want_checksum: bool,
        verify: Callable[[int], None] | None = None,
    ) -> None:
        self.size_bytes = buffer.nbytes
        self.num_pieces = -(-buffer.nbytes // PIECE_BYTES)
        self.num_finished = 0
        self.started_s: float | None = None
        self._move_piece = move_piece
        self._buffer: memoryview | None = buffer
        self._offset_bytes = offset_bytes
        self._digests: dict[int, bytes] | None = {} if want_checksum else None
        self._verify = verify
        self._error: Exception | None = None
        self._result: TransferResult | None = None
        self._finished = threading.Event()

    @property
    def done(self) -> bool:
        """Whether `wait` would return or raise at once."""
        return self._finished.is_set()

    @property
    def succeeded(self) -> bool:
        """Whether `wait` would return a result at once."""
        return self.done and self._error is None

    def wait(self) -> TransferResult:
        """Block until the transfer has ended.

        Raises:
            StorageError: as raised by `move_piece` or `verify` on the lane's thread.
        """
        self.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def join(self) -> None:
        """Block until the transfer has ended, in whichever way."""
        self._finished.wait()

    def run_piece(self, index: int) -> int:
        """Move one piece on this thread and return its bytes; after an error, skip it."""
        if self._error is not None:
            return 0
        try:
            return self._move_and_digest(index)
        except Exception as error:
            self._fail(error)
            return 0

    def _move_and_digest(self, index: int) -> int:
        assert self._buffer is not None
        start = index * PIECE_BYTES
        piece = self._buffer[start : start + PIECE_BYTES]
        self._move_piece(piece, self._offset_bytes + start)
        if self._digests is not None:
            for place in range(0, piece.nbytes, BLOCK_BYTES):
                digest = block_digest(piece[place : place + BLOCK_BYTES])
                self._digests[start + place] = digest
        return piece.nbytes

    def finish(self, ended_s: float) -> None:
        """Set the result and wake who waits; called once, when all pieces have ended."""
        assert self.started_s is not None
        checksum = None
        if self._error is None and self._digests is not None:
            checksum = combine_digests(digest for _, digest in sorted(self._digests.items()))
            self._check(checksum)
        self._result = TransferResult(
            size_bytes=self.size_bytes, seconds=ended_s - self.started_s, checksum=checksum
        )
        self._buffer = None
        self._finished.set()

    def _check(self, checksum: int) -> None:
        if self._verify is None:
            return
        try:
            self._verify(checksum)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        # The frames of a traceback hold slices of the buffer, and an arena with a living slice
        # cannot be unmapped.
        cause: BaseException | None = error
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__ or cause.__context__
        self._error = error
