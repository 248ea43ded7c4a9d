"""What every store promises, asked of each of them."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from outsize.errors import StorageError
from outsize.store.checksum import checksum_of
from outsize.store.disk import DiskStore
from outsize.store.failing import FailingStore
from outsize.store.kernel import Kernel
from outsize.store.null import NullStore
from outsize.store.store import Store, place_extents

EXTENTS = place_extents([("a", 40960), ("b", 4096), ("c", 1), ("d", 65536)])
SIZES = {extent.name: extent.size_bytes for extent in EXTENTS}


@pytest.fixture(params=["direct", "buffered", "null", "failing"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, refusing_kernel: Kernel, small_pieces: int
) -> Iterator[Store]:
    kernel = refusing_kernel if request.param == "buffered" else None
    match request.param:
        case "null":
            made: Store = NullStore(EXTENTS, remember=True)
        case "failing":
            made = FailingStore(NullStore(EXTENTS, remember=True))
        case _:
            path = tmp_path / "state.bin"
            made = DiskStore(path, EXTENTS, create=True, notice=lambda _: None, kernel=kernel)
    yield made
    made.close()


def test_what_was_written_is_read_back(store, pages):
    content = {name: os.urandom(size) for name, size in SIZES.items()}
    for transfer in [store.start_write(n, pages(SIZES[n], content[n])) for n in SIZES]:
        transfer.wait()
    targets = {name: pages(size) for name, size in SIZES.items()}
    for transfer in [store.start_read(name, target) for name, target in targets.items()]:
        transfer.wait()
    assert {name: bytes(target) for name, target in targets.items()} == content


def test_a_shorter_buffer_moves_the_prefix(store, pages):
    store.start_write("d", pages(65536, b"o" * 65536)).wait()
    store.start_write("d", pages(12288, b"n" * 12288)).wait()
    target = pages(20480)
    store.start_read("d", target).wait()
    assert bytes(target) == b"n" * 12288 + b"o" * 8192


def test_a_new_extent_reads_as_zeros(store, pages):
    target = pages(40960, b"x" * 40960)
    store.start_read("a", target).wait()
    assert bytes(target) == bytes(40960)


def test_the_checksum_of_a_write_verifies_its_read(store, pages):
    source = pages(40960, os.urandom(40960))
    checksum = store.start_write("a", source, want_checksum=True).wait().checksum
    assert checksum == checksum_of(source)
    assert store.start_read("a", pages(40960), checksum).wait().checksum == checksum


def test_the_checksum_is_the_hash_of_the_digests_of_the_blocks(store, pages, small_pieces):
    content = os.urandom(12288)
    result = store.start_write("a", pages(12288, content), want_checksum=True).wait()
    size = small_pieces // 2
    blocks = [content[start : start + size] for start in range(0, 12288, size)]
    digests = b"".join(map(xxhash.xxh3_64_digest, blocks))
    assert result.checksum == xxhash.xxh3_64_intdigest(digests)


def test_a_wrong_checksum_names_the_extent_and_both_checksums(store, pages):
    store.start_write("b", pages(4096, b"w" * 4096)).wait()
    target = pages(4096)
    with pytest.raises(StorageError) as caught:
        store.start_read("b", target, 0x1234).wait()
    assert "The bytes of 'b' read from " in str(caught.value)
    assert f"{checksum_of(target):016x} instead of 0000000000001234" in str(caught.value)


def test_after_a_failed_read_the_next_ones_succeed(store, pages):
    target = pages(40960)
    failed = store.start_read("a", target, 0x1234)
    good = store.start_read("d", pages(65536))
    with pytest.raises(StorageError):
        failed.wait()
    with pytest.raises(StorageError):
        failed.wait()  # a second wait tells the same
    assert good.wait().size_bytes == 65536


def test_no_checksum_unless_asked_for(store, pages):
    assert store.start_write("b", pages(4096)).wait().checksum is None
    assert store.start_read("b", pages(4096)).wait().checksum is None


def test_a_result_says_how_much_and_how_long(store, pages):
    transfer = store.start_write("a", pages(12288))
    result = transfer.wait()
    assert transfer.done
    assert result.size_bytes == 12288
    assert result.seconds > 0


def test_counters_hold_every_transfer_that_was_waited_for(store, pages):
    store.start_write("a", pages(40960)).wait()
    store.start_write("b", pages(4096)).wait()
    store.start_read("d", pages(8192)).wait()
    counters = store.counters()
    assert (counters.bytes_written, counters.bytes_read) == (45056, 8192)
    assert counters.write_busy_s > 0
    assert counters.read_busy_s > 0


def test_many_transfers_in_flight_at_once(store, pages):
    chunks = [(number, os.urandom(4096)) for number in range(50)]
    random.Random(0).shuffle(chunks)
    reads = []
    for _, content in chunks:
        store.start_write("b", pages(4096, content)).wait()
        target = pages(4096)
        reads.append((target, store.start_read("b", target)))
        reads[-1][1].wait()
    assert [bytes(target) for target, _ in reads] == [content for _, content in chunks]


def test_sync_waits_for_the_writes_before_it(store, pages):
    writes = [store.start_write(name, pages(size)) for name, size in SIZES.items()]
    store.sync()
    assert all(write.done for write in writes)


def test_close_finishes_what_was_started_and_can_be_called_twice(store, pages):
    transfer = store.start_write("d", pages(65536))
    store.close()
    store.close()
    assert transfer.wait().size_bytes == 65536


@pytest.mark.parametrize("size_bytes", [4095, 8192])
def test_a_buffer_of_the_wrong_size_is_a_bug(store, pages, size_bytes):
    with pytest.raises(AssertionError):
        store.start_read("b", pages(size_bytes))
