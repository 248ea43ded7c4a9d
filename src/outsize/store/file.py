"""One file, read and written in whole pages past the page cache.

The page cache counts against a container's memory limit, so the file is opened with `O_DIRECT`.
Where the file system refuses that, the pages are dropped behind every piece instead, and the user
is told once. `disk.py` puts extents and lanes on top.
"""

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from outsize.errors import StorageError
from outsize.spec.tensor import PAGE_BYTES
from outsize.store.kernel import Kernel, reason


class BlockFile:
    """An open file that moves pieces whole; safe to use from several threads.

    Args:
        path: an existing file.
        kernel: the system calls.
        notice: called once with a sentence when direct I/O is refused.

    Raises:
        StorageError: the file cannot be opened or read.
    """

    def __init__(self, path: Path, kernel: Kernel, notice: Callable[[str], None]) -> None:
        self._kernel = kernel
        try:
            direct_fd = _open_direct(path, kernel)
            self.is_direct = direct_fd is not None
            self._fd = _open_buffered(path, kernel) if direct_fd is None else direct_fd
        except OSError as error:
            raise StorageError(f"Opening {path} failed: {reason(error)}.") from error
        if not self.is_direct:
            notice(
                f"The file system of {path} refuses direct I/O: reading and writing through the "
                "page cache and dropping the pages behind every piece, which is slower and can "
                "briefly count as memory."
            )

    def read(self, piece: memoryview, offset_bytes: int) -> None:
        """Fill the piece from the file.

        Raises:
            OSError: the drive failed or the file ends inside the piece.
        """
        _move_whole(self._kernel.preadv, self._fd, piece, offset_bytes)
        if not self.is_direct:
            self._drop(offset_bytes, piece.nbytes)

    def write(self, piece: memoryview, offset_bytes: int) -> None:
        """Write the piece to the file.

        Raises:
            OSError: the drive failed or is full.
        """
        _move_whole(self._kernel.pwritev, self._fd, piece, offset_bytes)
        if not self.is_direct:
            self._kernel.fdatasync(self._fd)  # only clean pages can be dropped
            self._drop(offset_bytes, piece.nbytes)

    def sync(self) -> None:
        """Make every finished write durable.

        Raises:
            OSError: the drive failed.
        """
        self._kernel.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _drop(self, offset_bytes: int, size_bytes: int) -> None:
        self._kernel.posix_fadvise(self._fd, offset_bytes, size_bytes, os.POSIX_FADV_DONTNEED)


def _open_direct(path: Path, kernel: Kernel) -> int | None:
    try:
        fd = kernel.open(path, os.O_RDWR | os.O_DIRECT, 0)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise
    try:
        # Some file systems accept the flag and refuse the first transfer; better now than on a
        # lane's thread.
        with mmap.mmap(-1, PAGE_BYTES) as page, memoryview(page) as view:
            kernel.preadv(fd, [view], 0)
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EINVAL:
            return None
        raise
    return fd


def _open_buffered(path: Path, kernel: Kernel) -> int:
    fd = kernel.open(path, os.O_RDWR, 0)
    kernel.posix_fadvise(
        fd, 0, 0, os.POSIX_FADV_RANDOM
    )  # no pages beyond the piece that was asked for
    return fd


def _move_whole(
    system_call: Callable[[int, list[memoryview], int], int],
    fd: int,
    piece: memoryview,
    offset_bytes: int,
) -> None:
    moved_bytes = 0
    while moved_bytes < piece.nbytes:
        count = system_call(fd, [piece[moved_bytes:]], offset_bytes + moved_bytes)
        # Direct I/O can only go on at a page: the part of a page that came with a short transfer is
        # moved again.
        whole_bytes = count - count % PAGE_BYTES
        if whole_bytes == 0:
            raise OSError(errno.EIO, f"only {count} bytes were moved, the file may have been cut")
        moved_bytes += whole_bytes
