"""What a tier of bytes can do: the contract that every store keeps.

A store holds named extents and moves whole pages between them and page-aligned buffers. A transfer
is started at once and waited for later, so that the executor can compute in between. `disk.py` is
the real one, `null.py` the one that only counts, `failing.py` the one that breaks on purpose; one
set of contract tests runs over all of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from outsize.quantities import align_up
from outsize.spec.tensor import PAGE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """A named, page-aligned range of a store; extents of one store never overlap.

    Attributes:
        name: what the executor calls it, for example `model.layers.3/exp_avg/0`.
        offset_bytes: start inside the store's file, a multiple of `PAGE_BYTES`.
        size_bytes: length, a positive multiple of `PAGE_BYTES`.
    """

    name: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """What one finished transfer did.

    Attributes:
        size_bytes: bytes moved.
        seconds: time from the first piece's start to the last piece's end; time in the queue is not
            in it.
        checksum: `checksum_of` the bytes moved; None when it was not asked for or the store keeps
            no bytes.
    """

    size_bytes: int
    seconds: float
    checksum: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCounters:
    """What a store has done since it was opened.

    Attributes:
        bytes_read: bytes of all pieces read, those of transfers that failed later included.
        bytes_written: bytes of all pieces written, likewise.
        read_busy_s: time during which at least one read was in service.
        write_busy_s: time during which at least one write was in service.
    """

    bytes_read: int
    bytes_written: int
    read_busy_s: float
    write_busy_s: float


class Transfer(Protocol):
    """A started transfer; its buffer belongs to the store until `done` is true."""

    @property
    def done(self) -> bool:
        """Whether `wait` would return or raise at once."""
        ...

    def wait(self) -> TransferResult:
        """Block until the transfer has ended; may be called again.

        Raises:
            StorageError: the disk failed, or the bytes read do not match their checksum.
        """
        ...


class Store(Protocol):
    """Named extents with asynchronous transfers.

    A buffer is a contiguous memoryview of a page-aligned arena, a multiple of `PAGE_BYTES` long and
    not longer than its
    extent: a shorter one moves the extent's prefix. What was never written is unspecified (zeros in
        a new store).

    Guarantees: reads are served in the order of their start, and so are writes; a read and a write,
    or two writes, of one extent have no order between them unless the first was waited for. All
    methods are called from one thread; a transfer may be waited for from any.
    """

    def start_read(self, extent: str, buffer: memoryview, checksum: int | None = None) -> Transfer:
        """Start filling `buffer` from `extent` and return at once.

        With a checksum, `wait` raises a `StorageError` that names the extent and the file when the
        bytes do not match.
        """
        ...

    def start_write(self, extent: str, buffer: memoryview, want_checksum: bool = False) -> Transfer:
        """Start writing `buffer` to `extent` and return at once.

        The buffer must not change until the transfer has ended.
        """
        ...

    def sync(self) -> None:
        """Wait for every write started before, then make all of them durable.

        Raises:
            StorageError: the disk failed, or a write started since the last sync has failed.
        """
        ...

    def counters(self) -> StoreCounters:
        """Return what the store has done so far; a transfer that was waited for is in it."""
        ...

    def close(self) -> None:
        """Finish what was started and give everything back; may be called again."""
        ...


def place_extents(sizes: Iterable[tuple[str, int]]) -> tuple[Extent, ...]:
    """Lay extents of the given names and least sizes one after another, in whole pages."""
    extents: list[Extent] = []
    offset_bytes = 0
    for name, least_bytes in sizes:
        size_bytes = align_up(least_bytes, PAGE_BYTES)
        extents.append(Extent(name=name, offset_bytes=offset_bytes, size_bytes=size_bytes))
        offset_bytes += size_bytes
    return tuple(extents)


def layout_bytes(extents: Iterable[Extent]) -> int:
    """Return the length of the file that holds the extents."""
    return max(extent.offset_bytes + extent.size_bytes for extent in extents)


def index_extents(extents: Iterable[Extent]) -> dict[str, Extent]:
    """Return the extents by name; asserts that they are aligned, disjoint and named once."""
    by_offset = sorted(extents, key=lambda extent: extent.offset_bytes)
    end_bytes = 0
    for extent in by_offset:
        assert extent.offset_bytes % PAGE_BYTES == 0, extent
        assert extent.size_bytes % PAGE_BYTES == 0, extent
        assert extent.size_bytes > 0, extent
        assert extent.offset_bytes >= end_bytes, f"{extent} overlaps the extent before it"
        end_bytes = extent.offset_bytes + extent.size_bytes
    by_name = {extent.name: extent for extent in by_offset}
    assert len(by_name) == len(by_offset) > 0, "extents need names of their own"
    return by_name


def check_buffer(extent: Extent, buffer: memoryview) -> None:
    """Assert that the buffer can be moved to or from a prefix of the extent."""
    assert buffer.contiguous, extent
    assert (buffer.ndim, buffer.itemsize) == (1, 1), extent
    assert 0 < buffer.nbytes <= extent.size_bytes, (extent, buffer.nbytes)
    assert buffer.nbytes % PAGE_BYTES == 0, (extent, buffer.nbytes)
