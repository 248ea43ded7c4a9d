"""A file that is read by ranges and leaves nothing in the page cache.

A container's limit counts cached pages, so every range is dropped from the cache as soon as it was
copied out. Readahead is switched off, since it would fill the cache behind our back; callers ask
for large ranges instead.
"""

import os
from pathlib import Path

from outsize.errors import FormatError, StorageError

PAGE_BYTES = 4096


class RangedFile:
    """An open file with a known size.

    Args:
        path: the file.

    Raises:
        FormatError: the file does not exist or is no regular file.
        StorageError: the operating system refuses to open it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise FormatError(f"{path} is missing or is not a file.")
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"{path} cannot be opened: {error.strerror}.") from error
        self.num_bytes = os.fstat(self._fd).st_size
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, offset: int, num_bytes: int) -> bytearray:
        """Return `num_bytes` bytes from `offset`.

        Raises:
            FormatError: the file ends before.
            StorageError: the disk failed.

        Cost: `num_bytes` on host for the result; the same in page cache until the call returns.
        """
        if offset + num_bytes > self.num_bytes:
            raise FormatError(
                f"{self.path} is truncated: bytes {offset} to {offset + num_bytes} are needed, "
                f"the file has {self.num_bytes}."
            )
        data = bytearray(num_bytes)
        view = memoryview(data)
        done = 0
        while done < num_bytes:
            count = self._read_some(view[done:], offset + done)
            if count == 0:
                raise FormatError(f"{self.path} was truncated while it was read.")
            done += count
        self._drop_cache(offset, num_bytes)
        return data

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read_some(self, view: memoryview, offset: int) -> int:
        try:
            return os.preadv(self._fd, [view], offset)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be read: {error.strerror}.") from error

    def _drop_cache(self, offset: int, num_bytes: int) -> None:
        first = (
            offset // PAGE_BYTES * PAGE_BYTES
        )  # the kernel keeps pages that are only partly named
        last = -(-(offset + num_bytes) // PAGE_BYTES) * PAGE_BYTES
        os.posix_fadvise(self._fd, first, last - first, os.POSIX_FADV_DONTNEED)
