"""Read and write rate of a folder's disk, measured through the same store and the same lanes that a
run uses.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from outsize.store.arena import HostArena
from outsize.store.disk import DiskStore
from outsize.store.store import place_extents

_BLOCK_BYTES = 16 * 2**20
_NUM_BLOCKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRates:
    """Sustained rates of one disk."""

    read_bytes_per_s: float
    write_bytes_per_s: float


def measure_disk(folder: Path, room_bytes: int) -> DiskRates:
    """Write a small file in `folder`, read it back, and remove it, also one that a killed process
    has left; nobody else measures in this folder.

    Args:
        folder: on the disk to measure.
        room_bytes: what the file should stay below; one block is written in any case.

    Raises:
        StorageError: the folder's disk is full or fails.

    Cost: at most 128 MiB on disk and 16 MiB of host memory until the return; well under a second on
    an SSD.
    """
    path = folder / ".probe"
    path.unlink(missing_ok=True)
    room_bytes = min(room_bytes, shutil.disk_usage(folder).free)
    num_blocks = min(_NUM_BLOCKS, max(1, room_bytes // (2 * _BLOCK_BYTES)))
    extents = place_extents((str(i), _BLOCK_BYTES) for i in range(num_blocks))
    store = DiskStore(path, extents, create=True, notice=lambda text: None)
    arena = HostArena(_BLOCK_BYTES)
    try:
        view = arena.view(0, _BLOCK_BYTES)
        for transfer in [store.start_write(e.name, view) for e in extents]:
            transfer.wait()
        for transfer in [store.start_read(e.name, view) for e in extents]:
            transfer.wait()
        counters = store.counters()
    finally:
        store.close()
        arena.close()
        path.unlink()
    return DiskRates(
        read_bytes_per_s=counters.bytes_read / max(counters.read_busy_s, 1e-6),
        write_bytes_per_s=counters.bytes_written / max(counters.write_busy_s, 1e-6),
    )
