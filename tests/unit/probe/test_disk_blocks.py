import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_sizes import DISK, INTERFERENCE

from outsize.errors import StorageError
from outsize.machines.records import to_json
from outsize.probe import disk_blocks, scratch
from outsize.probe.disk_blocks import both_ways, measure_disk_blocks
from outsize.probe.interference import losses_s_per_byte, measure_interference
from outsize.probe.mounts import disk_name
from outsize.probe.scratch import scratch_file
from outsize.probe.stopwatch import Stopwatch


def test_a_disk_is_measured_by_size_and_both_ways_and_nothing_is_left(tmp_path: Path) -> None:
    advanced: list[int] = []
    measured = measure_disk_blocks(
        tmp_path, DISK, notice=lambda text: None, advance=advanced.append
    )
    disk = measured.disk
    assert [block.block_bytes for block in disk.blocks] == [2**16, 2**18]
    assert (disk.read_bytes_per_s, disk.write_bytes_per_s) == (
        disk.blocks[-1].read_bytes_per_s,
        disk.blocks[-1].write_bytes_per_s,
    )
    assert min(disk.read_beside_write_bytes_per_s, disk.write_beside_read_bytes_per_s) > 1
    assert disk.name == disk_name(tmp_path)
    assert disk.free_bytes > 0
    assert disk.endurance_bytes is None
    assert advanced == [1, 2]
    assert measured.scratch_bytes == 3 * 2**20
    assert measured.bytes_read > 0
    assert measured.bytes_written > 0
    assert os.listdir(tmp_path) == []


def test_the_scratch_file_has_no_name_while_it_is_used(tmp_path: Path) -> None:
    with scratch_file(tmp_path, DISK, lambda text: None) as opened:
        assert os.listdir(tmp_path) == []
        assert {size: len(names) for size, names in opened.sections.items()} == {
            2**16: 16,
            2**18: 8,
        }
        names = opened.sections[2**16]
        assert len(set(names)) == 16
        assert names != sorted(names)
        assert len(set(bytes(opened.write_buffer[:4096]))) > 200
        reads, writes = both_ways(opened)
        reads.feed()
        writes.feed()
        reads.drain()
        writes.drain()
        assert opened.store.counters().bytes_read == opened.store.counters().bytes_written


def test_sizes_that_do_not_fit_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "free_bytes", lambda folder: 2**20)
    with scratch_file(tmp_path, DISK, lambda text: None) as opened:
        # Half of what is free, in three sections: two transfers of 64 KiB fit, none of 256 KiB.
        assert {size: len(names) for size, names in opened.sections.items()} == {2**16: 5}
    monkeypatch.setattr(scratch, "free_bytes", lambda folder: 2**36)
    monkeypatch.setattr(scratch, "file_limit_bytes", lambda: 2**20)
    with scratch_file(tmp_path, DISK, lambda text: None) as opened:
        assert opened.num_bytes <= 2**20


def test_a_disk_that_is_full_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "free_bytes", lambda folder: 2**18)
    message = (
        r"Measuring the disk of .* needs at least 768 KiB on it; 256 KiB are free\. "
        r"Free some space or name another folder with --folder\."
    )
    with pytest.raises(StorageError, match=message):
        measure_disk_blocks(tmp_path, DISK, notice=lambda text: None)


def test_a_slow_disk_is_read_only_where_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_blocks, "fill", lambda traffic, number, seconds, clock: 1)
    with scratch_file(tmp_path, DISK, lambda text: None) as opened:
        rates = disk_blocks._rates_of_size(opened, 2**16, DISK, time.perf_counter)
        assert len(opened.sections[2**16]) == 1
    assert rates.read_bytes_per_s >= 1


def test_the_loss_of_arithmetic_is_never_below_nothing(tmp_path: Path) -> None:
    found = measure_interference(str(tmp_path), to_json(INTERFERENCE), None)
    assert found["compute_loss_s_per_byte"] >= 0
    assert found["bytes_written"] > 0
    assert os.listdir(tmp_path) == []


class _ThreeSeconds(Stopwatch):
    """A clock by which work takes one second alone and three beside transfers."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def seconds(self, work: object, num_calls: int = 1) -> float:
        self.num_calls += 1
        if self.num_calls % 2:
            return 1.0
        end_s = time.perf_counter() + 0.02
        while time.perf_counter() < end_s:
            pass
        return 3.0


def test_the_loss_is_the_time_lost_over_the_bytes_moved_meanwhile(tmp_path: Path) -> None:
    with scratch_file(tmp_path, replace(DISK, section_bytes=2**20), lambda text: None) as opened:
        losses = losses_s_per_byte(lambda: None, opened, 3, _ThreeSeconds())
        counters = opened.store.counters()
    moved_bytes = counters.bytes_read + counters.bytes_written
    assert len(losses) == 3
    assert all(loss == 0 or loss > 2.0 / moved_bytes for loss in losses)
