"""Order, overlap, errors and time of a lane, with a block mover and a clock of our own."""

import mmap
import threading

import pytest

from outsize.store.aio import Lane
from outsize.store.transfer import LaneTransfer


def transfer_of(buffer, move, offset_bytes=0, **options):
    return LaneTransfer(move, buffer, offset_bytes, want_checksum=False, **options)


def test_pieces_start_in_the_order_of_submission(pages, small_pieces):
    offsets = []
    lane = Lane("test", num_threads=1)
    buffer = pages(2 * small_pieces)
    transfers = [
        transfer_of(buffer, lambda _, offset: offsets.append(offset), start)
        for start in (100000, 0, 50000)
    ]
    for transfer in transfers:
        lane.submit(transfer)
    lane.close()
    assert offsets == [100000, 108192, 0, 8192, 50000, 58192]


def test_two_pieces_of_a_transfer_are_in_flight_at_once(pages, small_pieces):
    both_inside = threading.Barrier(2, timeout=30)
    lane = Lane("test", num_threads=2)
    transfer = transfer_of(pages(2 * small_pieces), lambda *_: both_inside.wait())
    lane.submit(transfer)
    assert transfer.wait().size_bytes == 2 * small_pieces
    lane.close()


def test_done_only_after_the_last_piece(pages, small_pieces):
    release = threading.Event()
    lane = Lane("test", num_threads=2)
    transfer = transfer_of(
        pages(2 * small_pieces), lambda _, offset: release.wait() if offset else None
    )
    lane.submit(transfer)
    assert not transfer.done
    release.set()
    transfer.wait()
    assert transfer.done
    lane.close()


def test_an_error_skips_the_rest_of_its_transfer_only(pages, small_pieces):
    moved = []

    def move(block: memoryview, offset_bytes: int) -> None:
        if offset_bytes == 0:
            raise ValueError("a bug in the mover")
        moved.append(offset_bytes)

    lane = Lane("test", num_threads=1)
    failed = transfer_of(pages(4 * small_pieces), move)
    good = transfer_of(pages(small_pieces), move, 50000)
    lane.submit(failed)
    lane.submit(good)
    with pytest.raises(ValueError, match="a bug in the mover"):
        failed.wait()
    assert good.wait().size_bytes == small_pieces
    lane.close()
    assert moved == [50000]
    assert lane.moved()[0] == small_pieces


def test_a_failed_transfer_keeps_no_reference_to_its_buffer(small_pieces):
    def move(block: memoryview, offset_bytes: int) -> None:
        part = block[:100]
        try:
            raise OSError("inner")
        except OSError as error:
            raise ValueError(f"outer, {len(part)} bytes") from error

    memory = mmap.mmap(-1, small_pieces)
    lane = Lane("test", num_threads=1)
    transfer = transfer_of(memoryview(memory), move)
    lane.submit(transfer)
    with pytest.raises(ValueError, match="outer, 100 bytes"):
        transfer.wait()
    memory.close()  # raises BufferError if a slice is alive
    lane.close()
    assert memory.closed


def test_seconds_are_service_and_not_queue(pages, small_pieces):
    clock = [100.0]

    def move(block: memoryview, offset_bytes: int) -> None:
        clock[0] += 3.0

    lane = Lane("test", num_threads=1, clock=lambda: clock[0])
    first = transfer_of(pages(2 * small_pieces), move)
    second = transfer_of(pages(small_pieces), move)
    lane.submit(first)
    lane.submit(second)
    assert first.wait().seconds == 6.0
    assert second.wait().seconds == 3.0
    lane.close()
    clock[0] += 1000.0
    assert lane.moved() == (3 * small_pieces, 9.0)


def test_a_lane_that_is_busy_counts_the_time_so_far(pages, small_pieces):
    clock = [0.0]
    inside, release = threading.Event(), threading.Event()

    def move(block: memoryview, offset_bytes: int) -> None:
        inside.set()
        release.wait()

    lane = Lane("test", num_threads=1, clock=lambda: clock[0])
    transfer = transfer_of(pages(small_pieces), move)
    lane.submit(transfer)
    inside.wait()
    clock[0] = 7.0
    assert lane.moved() == (0, 7.0)
    release.set()
    lane.close()
    assert transfer.done


def test_a_closed_lane_takes_no_transfers(pages, small_pieces):
    lane = Lane("test")
    lane.close()
    with pytest.raises(AssertionError):
        lane.submit(transfer_of(pages(small_pieces), lambda *_: None))
