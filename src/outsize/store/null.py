"""The store without a drive: it counts bytes, and seconds at given rates.

Planner tests and dry runs use it as it is; with `remember=True` it keeps the bytes in memory and
stands in for a disk in the executor's tests, which is why it passes the same contract tests as
`disk.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from outsize.store.checksum import checksum_of, verify_checksum
from outsize.store.store import (
    Extent,
    StoreCounters,
    TransferResult,
    check_buffer,
    index_extents,
    layout_bytes,
)


@dataclass(frozen=True, slots=True)
class EndedTransfer:
    """A transfer that has already ended, in one way or the other."""

    outcome: TransferResult | Exception

    @property
    def done(self) -> bool:
        """Always true."""
        return True

    def wait(self) -> TransferResult:
        """Return the result or raise the error that the transfer was made with."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class NullStore:
    """A `Store` whose transfers end at once and whose seconds are simulated.

    Args:
        extents: what the store pretends to hold.
        read_bytes_per_s: rate of the simulated read lane.
        write_bytes_per_s: rate of the simulated write lane.
        remember: False leaves read buffers as they are, verifies nothing and returns no checksums;
            True keeps the bytes.

    Cost: with `remember`, `layout_bytes(extents)` of host memory until it is closed; otherwise
    nothing.
    """

    def __init__(
        self,
        extents: Iterable[Extent],
        *,
        read_bytes_per_s: float = 1e9,
        write_bytes_per_s: float = 1e9,
        remember: bool = False,
    ) -> None:
        self._extents = index_extents(extents)
        self._read_bytes_per_s = read_bytes_per_s
        self._write_bytes_per_s = write_bytes_per_s
        self._content = bytearray(layout_bytes(self._extents.values())) if remember else None
        self._bytes_read = 0
        self._bytes_written = 0
        self._closed = False

    def start_read(
        self, extent: str, buffer: memoryview, checksum: int | None = None
    ) -> EndedTransfer:
        """Count a read, and fill `buffer` if the bytes are remembered; see `Store`."""
        assert not self._closed
        check_buffer(self._extents[extent], buffer)
        self._bytes_read += buffer.nbytes
        actual = None
        if self._content is not None:
            buffer[:] = self._content[self._range(extent, buffer)]
            if checksum is not None:
                actual = checksum_of(buffer)
                try:
                    verify_checksum(extent, "memory", checksum, actual)
                except Exception as error:
                    return EndedTransfer(error)
        return self._ended(buffer, self._read_bytes_per_s, actual)

    def start_write(
        self, extent: str, buffer: memoryview, want_checksum: bool = False
    ) -> EndedTransfer:
        """Count a write, and keep the bytes if they are remembered; see `Store`."""
        assert not self._closed
        check_buffer(self._extents[extent], buffer)
        self._bytes_written += buffer.nbytes
        checksum = None
        if self._content is not None:
            self._content[self._range(extent, buffer)] = buffer
            checksum = checksum_of(buffer) if want_checksum else None
        return self._ended(buffer, self._write_bytes_per_s, checksum)

    def sync(self) -> None:
        """Do nothing: every write has ended."""
        assert not self._closed

    def counters(self) -> StoreCounters:
        """Return the bytes counted and the seconds that they stand for."""
        return StoreCounters(
            bytes_read=self._bytes_read,
            bytes_written=self._bytes_written,
            read_busy_s=self._bytes_read / self._read_bytes_per_s,
            write_busy_s=self._bytes_written / self._write_bytes_per_s,
        )

    def close(self) -> None:
        """Forget the bytes."""
        self._closed = True
        self._content = None

    def _range(self, extent: str, buffer: memoryview) -> slice:
        start = self._extents[extent].offset_bytes
        return slice(start, start + buffer.nbytes)

    def _ended(self, buffer: memoryview, bytes_per_s: float, checksum: int | None) -> EndedTransfer:
        return EndedTransfer(
            TransferResult(
                size_bytes=buffer.nbytes, seconds=buffer.nbytes / bytes_per_s, checksum=checksum
            )
        )
