"""A scratch file to measure a disk with. It has no name while it is used, so that no end of the
process leaves it behind; one that died while it was made is removed by the next.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from outsize.errors import StorageError
from outsize.probe.limits import file_limit_bytes
from outsize.probe.sizes import DiskSizes
from outsize.quantities import format_bytes
from outsize.store.arena import HostArena
from outsize.store.disk import DiskStore
from outsize.store.kernel import free_bytes
from outsize.store.store import layout_bytes, place_extents

_STRIDE = 7919
"""A prime: extents are taken in steps of it, so that successive transfers are not neighbours."""

_RANDOM_BYTES = 2**20

SCRATCH_PREFIX = ".outsize-probe-"
"""How the names of scratch files begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """An open scratch file with a buffer for each direction.

    Attributes:
        store: the file.
        num_bytes: its length.
        sections: names of the extents by transfer size, in the order to take them; the largest size
            has twice as many.
        read_buffer: as long as the largest transfer.
        write_buffer: likewise, full of noise that no drive can compress.
    """

    store: DiskStore
    num_bytes: int
    sections: dict[int, list[str]]
    read_buffer: memoryview
    write_buffer: memoryview


@contextmanager
def scratch_file(
    folder: Path, sizes: DiskSizes, notice: Callable[[str], None]
) -> Iterator[Scratch]:
    """Make a scratch file in `folder`.

    Raises:
        StorageError: the folder's disk is too full or fails.

    Cost: on disk a section for each size and another one, less where little is free; in memory two
    of the largest transfers.
    """
    counts = _counts(folder, sizes)
    names = {block: [f"{block}/{i}" for i in range(n)] for block, n in counts.items()}
    extents = place_extents((name, block) for block in names for name in names[block])
    for left_behind in folder.glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            left_behind.unlink()
    path = folder / f"{SCRATCH_PREFIX}{secrets.token_hex(8)}"
    store = DiskStore(path, extents, create=True, notice=notice)
    # From now on the file has no name; its space is free when it is closed, however that happens.
    path.unlink(missing_ok=True)
    arena = HostArena(2 * max(counts))
    try:
        yield Scratch(
            store=store,
            num_bytes=layout_bytes(extents),
            sections={block: _scattered(names[block]) for block in names},
            read_buffer=arena.view(0, max(counts)),
            write_buffer=_noise(arena.view(max(counts), max(counts))),
        )
    finally:
        store.close()
        arena.close()


def _counts(folder: Path, sizes: DiskSizes) -> dict[int, int]:
    """Return how many extents of each size there is room for; half of what is free is left."""
    free = free_bytes(folder)
    room_bytes = min(free // 2, file_limit_bytes() or free)
    section_bytes = min(sizes.section_bytes, room_bytes // (len(sizes.block_bytes) + 1))
    fitting = [block for block in sizes.block_bytes if 2 * block <= section_bytes]
    if not fitting:
        raise StorageError(
            f"Measuring the disk of {folder} needs at least "
            f"{format_bytes(4 * min(sizes.block_bytes) * (len(sizes.block_bytes) + 1))} on it; "
            f"{format_bytes(free)} are free. Free some space or name another folder with --folder."
        )
    counts = {block: section_bytes // block for block in fitting}
    counts[max(fitting)] = 2 * section_bytes // max(fitting)
    return counts


def _scattered(names: list[str]) -> list[str]:
    return [names[index * _STRIDE % len(names)] for index in range(len(names))]


def _noise(buffer: memoryview) -> memoryview:
    for start in range(0, buffer.nbytes, _RANDOM_BYTES):
        part = buffer[start : start + _RANDOM_BYTES]
        part[:] = os.urandom(part.nbytes)
    return buffer
