"""A file written front to back, without page cache, that appears only when it is complete."""

import os
from pathlib import Path

FLUSH_BYTES = 16 << 20
TEMPORARY_SUFFIX = ".outsize-partial"


class StreamFile:
    """A new file under a temporary name beside its final one.

    Args:
        path: the final name; a leftover temporary file of it is overwritten.

    Raises:
        OSError: from every method, when the disk is full or fails. The caller turns it into a
            message.

    Cost: at most `FLUSH_BYTES` of page cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(self._temporary, flags, 0o666)
        self._is_published = False
        self._num_bytes = 0
        self._flushed_bytes = 0

    def append(self, data: memoryview) -> None:
        """Write bytes at the end."""
        for start in range(0, len(data), FLUSH_BYTES):
            piece = data[start : start + FLUSH_BYTES]
            while piece:
                count = os.write(self._fd, piece)
                self._num_bytes += count
                piece = piece[count:]
            if self._num_bytes - self._flushed_bytes >= FLUSH_BYTES:
                self._flush()

    def complete(self) -> None:
        """Force everything to disk and close; the file keeps its temporary name."""
        self._flush()
        fd, self._fd = self._fd, -1
        os.close(fd)

    def publish(self) -> None:
        """Give the complete file its final name."""
        assert self._fd < 0, "complete() comes first"
        os.replace(self._temporary, self.path)
        self._is_published = True

    def discard(self) -> None:
        """Remove the file, whatever its state."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._temporary.unlink(missing_ok=True)
        if self._is_published:
            self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        os.fdatasync(self._fd)  # only pages that are on disk can be dropped
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self._flushed_bytes = self._num_bytes
