"""Rates of a folder's disk by transfer size, each direction alone and both together.

They are measured through the store and the lanes that a run uses, on a file of noise that is
written before it is read. The rates of both together are taken while both lanes always have work,
as in a steady run. A drive with a fast cache in front of slow cells is measured in its cache.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outsize.probe.mounts import disk_name
from outsize.probe.scratch import Scratch, scratch_file
from outsize.probe.sizes import DiskSizes
from outsize.probe.traffic import Clock, Pause, Traffic, fill, rate_alone, rates_together
from outsize.spec.machine import BlockRate, Disk
from outsize.store.kernel import free_bytes

_NUM_PASSES = 3
"""Each rate is the median of so many, since others use the drive too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDisk:
    """A disk, and what measuring it took.

    Attributes:
        disk: its rates.
        is_direct: whether transfers go past the page cache.
        scratch_bytes: what the scratch file took.
        bytes_read: read to measure it; `bytes_written` likewise.
    """

    disk: Disk
    is_direct: bool
    scratch_bytes: int
    bytes_read: int
    bytes_written: int


def measure_disk_blocks(
    folder: Path,
    sizes: DiskSizes,
    *,
    notice: Callable[[str], None],
    advance: Callable[[int], None] = lambda done: None,
    clock: Clock = time.perf_counter,
    pause: Pause = time.sleep,
) -> MeasuredDisk:
    """Measure the disk of `folder`.

    Args:
        folder: it exists.
        sizes: what to measure with.
        notice: called once with a sentence when the file system refuses direct I/O.
        advance: called with the number of sizes that are done.
        clock: seconds, never going back.
        pause: lets seconds pass.

    Raises:
        StorageError: the disk is too full or fails.

    Cost: see `scratch_file`; four threads; for each size at most twice `pass_bytes` and a section
    are written, and what the drive writes in `together_s`.
    """
    free = free_bytes(folder)
    with scratch_file(folder, sizes, notice) as scratch:
        blocks = []
        for done, block_bytes in enumerate(scratch.sections):
            blocks.append(_rates_of_size(scratch, block_bytes, sizes, clock))
            advance(done + 1)
        read_beside, write_beside = _together(scratch, sizes, clock, pause)
        counters = scratch.store.counters()
        is_direct = scratch.store.is_direct
    disk = Disk(
        name=disk_name(folder),
        read_bytes_per_s=blocks[-1].read_bytes_per_s,
        write_bytes_per_s=blocks[-1].write_bytes_per_s,
        read_beside_write_bytes_per_s=read_beside,
        write_beside_read_bytes_per_s=write_beside,
        blocks=tuple(blocks),
        free_bytes=free,
        endurance_bytes=None,
    )
    return MeasuredDisk(
        disk=disk,
        is_direct=is_direct,
        scratch_bytes=scratch.num_bytes,
        bytes_read=counters.bytes_read,
        bytes_written=counters.bytes_written,
    )


def _rates_of_size(scratch: Scratch, block_bytes: int, sizes: DiskSizes, clock: Clock) -> BlockRate:
    """Write the section once, since the first write of an extent is slower, then measure."""
    names = scratch.sections[block_bytes]
    write_buffer = scratch.write_buffer[:block_bytes]
    first = Traffic(scratch.store.start_write, names, write_buffer)
    num_written = fill(first, len(names), 2 * sizes.pass_s, clock)
    del names[num_written:]  # a slow disk: only what was written can be read
    writes = Traffic(scratch.store.start_write, names, write_buffer)
    write_rate = _median_rate(writes, sizes, clock)
    reads = Traffic(scratch.store.start_read, names, scratch.read_buffer[:block_bytes])
    read_rate = _median_rate(reads, sizes, clock)
    return BlockRate(
        block_bytes=block_bytes,
        read_bytes_per_s=max(read_rate, 1.0),
        write_bytes_per_s=max(write_rate, 1.0),
    )


def _median_rate(traffic: Traffic, sizes: DiskSizes, clock: Clock) -> float:
    part_s, part_bytes = sizes.pass_s / _NUM_PASSES, sizes.pass_bytes // _NUM_PASSES
    passes = range(_NUM_PASSES)
    return statistics.median(rate_alone(traffic, part_s, part_bytes, clock) for _ in passes)


def _together(
    scratch: Scratch, sizes: DiskSizes, clock: Clock, pause: Pause
) -> tuple[float, float]:
    """Return the rates of reads and writes while the other lane is busy."""
    reads, writes = both_ways(scratch)
    read_rate, write_rate = rates_together(reads, writes, sizes.together_s, clock, pause)
    return max(read_rate, 1.0), max(write_rate, 1.0)


def both_ways(scratch: Scratch) -> tuple[Traffic, Traffic]:
    """Return reads of one half and writes of the other half of the largest extents."""
    names = scratch.sections[max(scratch.sections)]
    middle = len(names) // 2
    assert middle, "two transfers are always queued"
    store = scratch.store
    return (
        Traffic(store.start_read, names[:middle], scratch.read_buffer),
        Traffic(store.start_write, names[middle:], scratch.write_buffer),
    )
