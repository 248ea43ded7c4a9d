"""A store that breaks on purpose, around one that works.

Each failure names a transfer by its direction and its number, so that a test says exactly which
read finds a bad drive or which write finds a full one. Used by fault-injection tests of everything
above the stores.
"""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event
from typing import Literal

from outsize.errors import StorageError
from outsize.store.checksum import checksum_of, verify_checksum
from outsize.store.kernel import reason
from outsize.store.null import EndedTransfer
from outsize.store.store import Store, StoreCounters, Transfer, TransferResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One transfer that shall not go well.

    Attributes:
        direction: whether `number` counts reads or writes.
        number: 0 for the first transfer of that direction.
        kind: `eio` and `enospc` fail the transfer without moving anything; `bit_flip` changes one
            bit of the bytes read; `hold` lets the transfer end only after `release` is set.
        flipped_bit: bit of the transfer that `bit_flip` changes.
        release: what `hold` waits for; None for the other kinds.
    """

    direction: Literal["read", "write"]
    number: int
    kind: Literal["eio", "enospc", "bit_flip", "hold"]
    flipped_bit: int = 0
    release: Event | None = None

    def __post_init__(self) -> None:
        assert self.kind != "bit_flip" or self.direction == "read"
        assert (self.kind == "hold") == (self.release is not None)


@dataclass(frozen=True, slots=True)
class HeldTransfer:
    """A transfer that ends only after an event is set."""

    inner: Transfer
    release: Event

    @property
    def done(self) -> bool:
        """Whether it was released and has ended."""
        return self.release.is_set() and self.inner.done

    def wait(self) -> TransferResult:
        """Wait for the release, then for the transfer."""
        self.release.wait()
        return self.inner.wait()


class FailingStore:
    """A `Store` that passes everything on to `inner` except for the planned failures.

    Args:
        inner: the store that does the work; closed with this one.
        failures: at most one for each transfer.
    """

    def __init__(self, inner: Store, failures: Iterable[Failure] = ()) -> None:
        self._inner = inner
        failures = tuple(failures)
        self._failures = {(failure.direction, failure.number): failure for failure in failures}
        assert len(self._failures) == len(failures), "two failures of one transfer"
        self._num_reads = 0
        self._num_writes = 0
        self._failed_write: EndedTransfer | None = None

    def start_read(self, extent: str, buffer: memoryview, checksum: int | None = None) -> Transfer:
        """Start a read, unless it is one that fails; see `Store`."""
        failure = self._failures.get(("read", self._num_reads))
        self._num_reads += 1
        if failure is None:
            return self._inner.start_read(extent, buffer, checksum)
        match failure.kind:
            case "hold":
                assert failure.release is not None
                return HeldTransfer(
                    self._inner.start_read(extent, buffer, checksum), failure.release
                )
            case "bit_flip":
                return self._read_flipped(extent, buffer, checksum, failure.flipped_bit)
            case "eio" | "enospc":
                return _broken(f"Reading {extent!r} failed", failure.kind)

    def start_write(self, extent: str, buffer: memoryview, want_checksum: bool = False) -> Transfer:
        """Start a write, unless it is one that fails; see `Store`."""
        failure = self._failures.get(("write", self._num_writes))
        self._num_writes += 1
        if failure is None:
            return self._inner.start_write(extent, buffer, want_checksum)
        if failure.kind == "hold":
            assert failure.release is not None
            return HeldTransfer(
                self._inner.start_write(extent, buffer, want_checksum), failure.release
            )
        assert failure.kind != "bit_flip"
        self._failed_write = _broken(f"Writing {extent!r} failed", failure.kind)
        return self._failed_write

    def sync(self) -> None:
        """Sync the inner store; raises if a write failed since the last sync."""
        failed_write, self._failed_write = self._failed_write, None
        if failed_write is not None:
            failed_write.wait()
        self._inner.sync()

    def counters(self) -> StoreCounters:
        """Return the inner store's counters."""
        return self._inner.counters()

    def close(self) -> None:
        """Close the inner store."""
        self._inner.close()

    def _read_flipped(
        self, extent: str, buffer: memoryview, checksum: int | None, bit: int
    ) -> EndedTransfer:
        result = self._inner.start_read(extent, buffer).wait()
        buffer[bit // 8] ^= 1 << bit % 8
        if checksum is None:
            return EndedTransfer(result)
        try:
            verify_checksum(extent, "a failing drive", checksum, checksum_of(buffer))
        except StorageError as error:
            return EndedTransfer(error)
        raise AssertionError("the checksum given was already wrong before the bit was flipped")


def _broken(what: str, kind: Literal["eio", "enospc"]) -> EndedTransfer:
    code = errno.EIO if kind == "eio" else errno.ENOSPC
    return EndedTransfer(StorageError(f"{what}: {reason(OSError(code, os.strerror(code)))}."))
