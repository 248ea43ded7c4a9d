"""What the null store and the failing store do beyond the contract."""

import threading

import pytest

from outsize.errors import StorageError
from outsize.store.checksum import checksum_of
from outsize.store.failing import FailingStore, Failure
from outsize.store.null import NullStore
from outsize.store.store import place_extents

EXTENTS = place_extents([("a", 8192), ("b", 4096)])


def test_the_null_store_simulates_seconds_at_its_rates(pages):
    store = NullStore(EXTENTS, read_bytes_per_s=8192.0, write_bytes_per_s=2048.0)
    assert store.start_read("a", pages(8192)).wait().seconds == 1.0
    assert store.start_write("b", pages(4096)).wait().seconds == 2.0
    counters = store.counters()
    assert (counters.read_busy_s, counters.write_busy_s) == (1.0, 2.0)


def test_the_null_store_leaves_buffers_alone_and_verifies_nothing(pages):
    store = NullStore(EXTENTS)
    target = pages(4096, b"x" * 4096)
    assert store.start_read("b", target, checksum=0x1234).wait().checksum is None
    assert store.start_write("b", target, want_checksum=True).wait().checksum is None
    assert bytes(target) == b"x" * 4096


def failing_store(**failure) -> FailingStore:
    return FailingStore(NullStore(EXTENTS, remember=True), [Failure(**failure)])


def test_only_the_planned_read_fails(pages):
    store = failing_store(direction="read", number=1, kind="eio")
    store.start_read("a", pages(8192)).wait()
    failed = store.start_read("a", pages(8192))
    with pytest.raises(StorageError, match=r"Reading 'a' failed: Input/output error \(EIO\)\."):
        failed.wait()
    assert store.start_read("a", pages(8192)).wait().size_bytes == 8192


def test_a_failed_write_changes_nothing_and_fails_the_next_sync(pages):
    store = failing_store(direction="write", number=0, kind="enospc")
    failed = store.start_write("b", pages(4096, b"n" * 4096))
    with pytest.raises(StorageError, match=r"Writing 'b' failed: No space left .*\(ENOSPC\)\."):
        failed.wait()
    with pytest.raises(StorageError):
        store.sync()
    store.sync()
    target = pages(4096)
    store.start_read("b", target).wait()
    assert bytes(target) == bytes(4096)


def test_a_flipped_bit_is_found_by_the_checksum(pages):
    store = failing_store(direction="read", number=0, kind="bit_flip", flipped_bit=12345)
    source = pages(8192, b"s" * 8192)
    store.start_write("a", source).wait()
    failed = store.start_read("a", pages(8192), checksum_of(source))
    with pytest.raises(StorageError, match="The bytes of 'a' read from a failing drive are not"):
        failed.wait()


def test_a_flipped_bit_passes_unnoticed_without_a_checksum(pages):
    store = failing_store(direction="read", number=0, kind="bit_flip", flipped_bit=9)
    target = pages(4096)
    store.start_read("b", target).wait()
    assert bytes(target) == b"\0\2" + bytes(4094)


@pytest.mark.parametrize("direction", ["read", "write"])
def test_a_held_transfer_ends_when_it_is_released(pages, direction):
    release = threading.Event()
    store = failing_store(direction=direction, number=0, kind="hold", release=release)
    start = store.start_read if direction == "read" else store.start_write
    transfer = start("b", pages(4096))
    assert not transfer.done
    release.set()
    assert transfer.done
    assert transfer.wait().size_bytes == 4096
