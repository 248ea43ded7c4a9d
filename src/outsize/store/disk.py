"""The disk tier: extents of one preallocated file, moved by a read lane and a write lane.

Nothing is copied: the drive reads and writes the caller's arena. `file.py` moves one piece,
`aio.py` runs the lanes, `durable.py` creates the file, `store.py` says what every store promises.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from outsize.errors import StorageError
from outsize.quantities import format_bytes
from outsize.store.aio import Lane
from outsize.store.checksum import verify_checksum
from outsize.store.durable import allocate_file
from outsize.store.file import BlockFile
from outsize.store.kernel import Kernel, reason
from outsize.store.store import (
    Extent,
    StoreCounters,
    check_buffer,
    index_extents,
    layout_bytes,
)
from outsize.store.transfer import LaneTransfer


class DiskStore:
    """A `Store` in one file.

    Args:
        path: the file; its folder exists.
        extents: what lies where in it.
        create: True makes a new file and takes its space now; False opens one that must be long
            enough.
        notice: called once with a sentence when the file system refuses direct I/O.
        kernel: the system calls.

    Raises:
        StorageError: the disk is too full, the file exists or is missing or too short, or it cannot
            be opened. A file that was being created is removed.

    Cost: four threads; on disk `layout_bytes(extents)` when created. Transfers allocate nothing of
    the data's size.
    """

    def __init__(
        self,
        path: Path,
        extents: Iterable[Extent],
        *,
        create: bool,
        notice: Callable[[str], None],
        kernel: Kernel | None = None,
    ) -> None:
        self._path = path
        self._extents = index_extents(extents)
        self._kernel = Kernel() if kernel is None else kernel
        self._file = self._open_file(create, notice)
        self._read_lane = Lane("disk-read")
        self._write_lane = Lane("disk-write")
        self._unsynced: deque[LaneTransfer] = deque()
        self._closed = False

    @property
    def is_direct(self) -> bool:
        """Whether transfers go past the page cache."""
        return self._file.is_direct

    def start_read(
        self, extent: str, buffer: memoryview, checksum: int | None = None
    ) -> LaneTransfer:
        """Start filling `buffer` from `extent`; see `Store`."""
        source = self._extents[extent]
        check_buffer(source, buffer)
        assert not buffer.readonly, extent
        verify = None
        if checksum is not None:
            verify = partial(verify_checksum, extent, str(self._path), checksum)
        transfer = LaneTransfer(
            partial(self._read_piece, extent),
            buffer,
            source.offset_bytes,
            want_checksum=checksum is not None,
            verify=verify,
        )
        self._read_lane.submit(transfer)
        return transfer

    def start_write(
        self, extent: str, buffer: memoryview, want_checksum: bool = False
    ) -> LaneTransfer:
        """Start writing `buffer` to `extent`; see `Store`."""
        target = self._extents[extent]
        check_buffer(target, buffer)
        transfer = LaneTransfer(
            partial(self._write_piece, extent),
            buffer,
            target.offset_bytes,
            want_checksum=want_checksum,
        )
        self._forget_written()
        self._unsynced.append(transfer)
        self._write_lane.submit(transfer)
        return transfer

    def sync(self) -> None:
        """Wait for the writes started before and make them durable; see `Store`."""
        while self._unsynced:
            self._unsynced[0].join()  # interrupted here, it is still there for the next sync
            self._unsynced.popleft().wait()
        try:
            self._file.sync()
        except OSError as error:
            raise StorageError(f"Making {self._path} durable failed: {reason(error)}.") from error

    def counters(self) -> StoreCounters:
        """Return what was moved and how long the lanes were busy; `sync` is in neither."""
        bytes_read, read_busy_s = self._read_lane.moved()
        bytes_written, write_busy_s = self._write_lane.moved()
        return StoreCounters(
            bytes_read=bytes_read,
            bytes_written=bytes_written,
            read_busy_s=read_busy_s,
            write_busy_s=write_busy_s,
        )

    def close(self) -> None:
        """Finish what was started, end the threads and close the file; the file stays."""
        if self._closed:
            return
        self._closed = True
        self._read_lane.close()
        self._write_lane.close()
        self._file.close()

    def _open_file(self, create: bool, notice: Callable[[str], None]) -> BlockFile:
        needed_bytes = layout_bytes(self._extents.values())
        if not create:
            _check_length(self._path, needed_bytes)
            return BlockFile(self._path, self._kernel, notice)
        allocate_file(self._path, needed_bytes, self._kernel)
        try:
            return BlockFile(self._path, self._kernel, notice)
        except BaseException:
            self._path.unlink()
            raise

    def _read_piece(self, extent: str, piece: memoryview, offset_bytes: int) -> None:
        try:
            self._file.read(piece, offset_bytes)
        except OSError as error:
            raise self._transfer_error(f"Reading {extent!r} from", offset_bytes, error) from error

    def _write_piece(self, extent: str, piece: memoryview, offset_bytes: int) -> None:
        try:
            self._file.write(piece, offset_bytes)
        except OSError as error:
            raise self._transfer_error(f"Writing {extent!r} to", offset_bytes, error) from error

    def _transfer_error(self, what: str, offset_bytes: int, error: OSError) -> StorageError:
        message = f"{what} {self._path} at byte {offset_bytes} failed: {reason(error)}."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = format_bytes(self._kernel.free_bytes(self._path.parent))
            message += (
                f"\n  {free} are free on that drive; free some space and resume: "
                "what was committed before is untouched."
            )
        return StorageError(message)

    def _forget_written(self) -> None:
        # Keeps the queue short in runs that never sync; a failed write stays, so that the next sync
        # raises it.
        while self._unsynced and self._unsynced[0].succeeded:
            self._unsynced.popleft()


def _check_length(path: Path, needed_bytes: int) -> None:
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise StorageError(f"Opening {path} failed: {reason(error)}.") from error
    if size_bytes < needed_bytes:
        raise StorageError(
            f"{path} is {size_bytes} bytes long and should be {needed_bytes}: "
            "it was cut, or it belongs to another run."
        )
