"""The disk store against drives that are full, slow, wrong or without direct I/O."""

import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from outsize.errors import StorageError
from outsize.store.disk import DiskStore
from outsize.store.kernel import Kernel
from outsize.store.store import Extent, place_extents

EXTENTS = place_extents([("a", 40960), ("b", 16384)])


def make(path: Path, kernel: Kernel | None = None, *, create: bool = True) -> DiskStore:
    return DiskStore(path, EXTENTS, create=create, notice=lambda _: None, kernel=kernel)


def failing(code: int):
    def call(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.bin"


def test_direct_io_is_asked_for(path):
    flags = []

    def note(path: Path, flag: int, mode: int) -> int:
        flags.append(flag)
        return os.open(path, flag, mode)

    make(path, Kernel(open=note)).close()
    assert flags[1] & os.O_DIRECT


def test_the_space_is_taken_when_the_file_is_created(path):
    make(path).close()
    assert path.stat().st_size == 57344
    assert path.stat().st_blocks * 512 >= 57344


def test_a_store_without_room_says_how_much_it_needs_and_leaves_nothing(path):
    huge = [Extent(name="a", offset_bytes=0, size_bytes=2**50)]
    with pytest.raises(StorageError, match=r"needs 1024 TiB on disk; [\d.]+ \w+ are free\.\n"):
        DiskStore(path, huge, create=True, notice=str)
    assert list(path.parent.iterdir()) == []


def test_a_drive_that_fills_up_during_allocation_leaves_nothing(path):
    kernel = Kernel(posix_fallocate=failing(errno.ENOSPC), free_bytes=lambda _: 60000)
    with pytest.raises(StorageError, match=r"needs 56\.0 KiB on disk; 58\.6 KiB are free"):
        make(path, kernel)
    assert list(path.parent.iterdir()) == []


def test_an_allocation_that_fails_otherwise_leaves_nothing(path):
    with pytest.raises(StorageError, match=r"Allocating 56\.0 KiB .*Input/output error \(EIO\)"):
        make(path, Kernel(posix_fallocate=failing(errno.EIO)))
    assert list(path.parent.iterdir()) == []


def test_a_file_that_cannot_be_opened_after_its_creation_is_removed(path):
    with pytest.raises(StorageError, match=r"Opening .* failed: Input/output error \(EIO\)"):
        make(path, Kernel(preadv=failing(errno.EIO)))
    assert list(path.parent.iterdir()) == []


def test_an_existing_file_is_never_overwritten(path):
    path.write_bytes(b"precious")
    with pytest.raises(StorageError, match=r"state\.bin exists already; it is not overwritten"):
        make(path)
    assert path.read_bytes() == b"precious"


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"Creating .*none/state\.bin failed: No such file"):
        make(tmp_path / "none" / "state.bin")


def test_a_file_that_is_missing_is_named(path):
    with pytest.raises(StorageError, match=r"Opening .*state\.bin failed: No such file"):
        make(path, create=False)


def test_a_file_that_was_cut_is_refused(path):
    path.write_bytes(bytes(40960))
    with pytest.raises(StorageError, match="is 40960 bytes long and should be 57344: it was cut"):
        make(path, create=False)


def test_bytes_survive_closing_and_opening(path, pages):
    store = make(path)
    store.start_write("b", pages(16384, b"k" * 16384)).wait()
    store.sync()
    store.close()
    again = make(path, create=False)
    target = pages(16384)
    again.start_read("b", target).wait()
    again.close()
    assert bytes(target) == b"k" * 16384


def test_short_transfers_go_on_at_the_next_page(path, pages, small_pieces):
    counts = []

    def short(system_call):
        def call(fd: int, buffers: list[memoryview], offset: int) -> int:
            count = system_call(fd, buffers, offset)
            counts.append(count)
            return count if count <= 4096 else count - 100

        return call

    kernel = Kernel(preadv=short(os.preadv), pwritev=short(os.pwritev))
    store = make(path, kernel)
    content = os.urandom(40960)
    store.start_write("a", pages(40960, content)).wait()
    target = pages(40960)
    store.start_read("a", target).wait()
    store.close()
    assert bytes(target) == content
    assert counts.count(4096) >= 10


def test_a_file_that_was_cut_while_open_fails_the_read(path, pages):
    store = make(path)
    os.truncate(path, 8192)
    failed = store.start_read("a", pages(40960))
    with pytest.raises(
        StorageError, match=r"Reading 'a' .* only 0 bytes were moved, .*cut \(EIO\)"
    ):
        failed.wait()
    store.close()


def test_an_io_error_names_extent_file_and_byte_and_the_next_transfer_works(
    path, pages, small_pieces
):
    def broken_at_byte_8192(fd: int, buffers: list[memoryview], offset: int) -> int:
        return failing(errno.EIO)() if offset == 8192 else os.preadv(fd, buffers, offset)

    store = make(path, Kernel(preadv=broken_at_byte_8192))
    failed = store.start_read("a", pages(40960))
    good = store.start_read("b", pages(16384))
    with pytest.raises(StorageError) as caught:
        failed.wait()
    assert str(caught.value) == (
        f"Reading 'a' from {path} at byte 8192 failed: Input/output error (EIO)."
    )
    assert good.wait().size_bytes == 16384
    store.close()


def test_a_full_disk_during_a_write_says_what_to_do(path, pages):
    kernel = Kernel(pwritev=failing(errno.ENOSPC), free_bytes=lambda _: 10**6)
    store = make(path, kernel)
    failed = store.start_write("b", pages(16384))
    with pytest.raises(StorageError) as caught:
        failed.wait()
    store.close()
    assert str(caught.value) == (
        f"Writing 'b' to {path} at byte 40960 failed: No space left on device (ENOSPC).\n"
        "  977 KiB are free on that drive; free some space and resume: what was committed before "
        "is untouched."
    )


def test_sync_raises_for_a_write_that_nobody_waited_for(path, pages):
    store = make(path, Kernel(pwritev=failing(errno.EIO)))
    store.start_write("b", pages(16384)).join()
    store.start_write("b", pages(16384)).join()
    for _ in range(2):
        with pytest.raises(StorageError, match="Writing 'b'"):
            store.sync()
    store.sync()
    store.close()
    assert store.counters().bytes_written == 0


def test_a_sync_that_fails_names_the_file(path):
    store = make(path, Kernel(fdatasync=failing(errno.EIO)))
    with pytest.raises(StorageError, match=r"Making .*state\.bin durable failed: .*\(EIO\)"):
        store.sync()
    store.close()


def test_a_bit_that_flipped_on_the_drive_is_found(path, pages):
    store = make(path)
    checksum = store.start_write("b", pages(16384, b"k" * 16384), True).wait().checksum
    with path.open("r+b") as file:
        file.seek(40960 + 5000)
        file.write(b"j")
        file.flush()
        os.fsync(file.fileno())
    failed = store.start_read("b", pages(16384), checksum)
    with pytest.raises(StorageError, match=rf"The bytes of 'b' read from {path} are not the ones"):
        failed.wait()
    store.close()


def refuse_at_first_transfer(path: Path) -> Kernel:
    direct_fds = set()

    def open_(path: Path, flags: int, mode: int) -> int:
        fd = os.open(path, flags, mode)
        (direct_fds.add if flags & os.O_DIRECT else direct_fds.discard)(fd)
        return fd

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        return failing(errno.EINVAL)() if fd in direct_fds else os.preadv(fd, buffers, offset)

    return Kernel(open=open_, preadv=preadv)


@pytest.mark.parametrize("when", ["open", "first transfer"])
def test_a_file_system_without_direct_io_is_used_and_said_once(path, pages, refusing_kernel, when):
    kernel = refusing_kernel if when == "open" else refuse_at_first_transfer(path)
    notices: list[str] = []
    store = DiskStore(path, EXTENTS, create=True, notice=notices.append, kernel=kernel)
    store.start_write("b", pages(16384, b"k" * 16384)).wait()
    target = pages(16384)
    store.start_read("b", target).wait()
    store.close()
    assert bytes(target) == b"k" * 16384
    assert not store.is_direct
    assert len(notices) == 1
    assert f"The file system of {path} refuses direct I/O" in notices[0]


def test_without_direct_io_clean_pages_are_dropped_behind_every_piece(
    path, pages, refusing_kernel, small_pieces
):
    calls: list[tuple[str, int, int]] = []

    def advise(fd: int, offset: int, size: int, advice: int) -> None:
        name = "drop" if advice == os.POSIX_FADV_DONTNEED else "random"
        calls.append((name, offset, size))

    kernel = replace(
        refusing_kernel, posix_fadvise=advise, fdatasync=lambda _: calls.append(("clean", 0, 0))
    )
    store = make(path, kernel)
    store.start_write("b", pages(8192)).wait()
    store.start_read("b", pages(16384)).wait()
    store.close()
    assert calls[:3] == [("random", 0, 0), ("clean", 0, 0), ("drop", 40960, 8192)]
    assert sorted(calls[3:]) == [("drop", 40960, 8192), ("drop", 49152, 8192)]


def test_with_direct_io_there_is_nothing_to_say(path):
    notices: list[str] = []
    store = DiskStore(path, EXTENTS, create=True, notice=notices.append)
    store.close()
    assert len(notices) == (0 if store.is_direct else 1)


def test_a_file_that_may_not_be_opened_is_no_fallback(path):
    make(path).close()
    with pytest.raises(StorageError, match=r"Opening .* failed: Permission denied \(EACCES\)"):
        make(path, Kernel(open=failing(errno.EACCES)), create=False)


def test_close_ends_the_threads(path):
    before = set(threading.enumerate())
    store = make(path)
    lanes = set(threading.enumerate()) - before
    assert sorted(lane.name for lane in lanes) == [
        "disk-read-0",
        "disk-read-1",
        "disk-write-0",
        "disk-write-1",
    ]
    store.close()
    assert not any(lane.is_alive() for lane in lanes)


@pytest.mark.parametrize(
    "extents",
    [
        [Extent(name="a", offset_bytes=100, size_bytes=4096)],
        [Extent(name="a", offset_bytes=0, size_bytes=100)],
        [Extent(name="a", offset_bytes=0, size_bytes=0)],
        [
            Extent(name="a", offset_bytes=0, size_bytes=8192),
            Extent(name="b", offset_bytes=4096, size_bytes=4096),
        ],
        [
            Extent(name="a", offset_bytes=0, size_bytes=4096),
            Extent(name="a", offset_bytes=4096, size_bytes=4096),
        ],
    ],
)
def test_extents_that_are_no_layout_are_a_bug(path, extents):
    with pytest.raises(AssertionError):
        DiskStore(path, extents, create=True, notice=str)
    assert not path.exists()
