"""The one file of a run: two places for every durable region, or one that is changed in place, then
scratch for what the plan moves besides.

The durable part depends on the model alone, so a run can be resumed under another budget, whose
plan moves other regions; only the scratch part changes then.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from outsize.errors import StorageError
from outsize.plan.actions import Action, WriteBack
from outsize.plan.layout import Layout, is_durable
from outsize.plan.step_plan import StepPlan
from outsize.quantities import format_bytes
from outsize.runtime.slots import extent_name
from outsize.store.disk import DiskStore
from outsize.store.store import Extent, layout_bytes, place_extents

JOURNAL_BYTES_PER_REGION = 24
_SMALL_FILES_BYTES = 2 * 2**20
"""Room for run.json, plan.txt and metrics.jsonl."""


def durable_regions(layout: Layout) -> tuple[str, ...]:
    """Return the names of all durable regions, sorted."""
    return tuple(sorted(name for name in layout.region_bytes if is_durable(name)))


def durable_extents(layout: Layout) -> tuple[Extent, ...]:
    """Return an extent for each copy of each durable region."""
    return place_extents(
        (extent_name(region, slot), layout.region_bytes[region])
        for region in durable_regions(layout)
        for slot in range(layout.copies_on_disk(region))
    )


def all_extents(layout: Layout, lists: Iterable[Iterable[Action]]) -> tuple[Extent, ...]:
    """Return the durable extents and one for every other region that the lists write to disk."""
    scratch = dict.fromkeys(
        action.region
        for actions in lists
        for action in actions
        if isinstance(action, WriteBack) and not is_durable(action.region)
    )
    durable = [(extent.name, extent.size_bytes) for extent in durable_extents(layout)]
    return place_extents([*durable, *((r, layout.region_bytes[r]) for r in scratch)])


def journal_and_logs_bytes(layout: Layout) -> int:
    """Return the room for what lies beside this file: the journal, and the small files of a run."""
    capacity_bytes = JOURNAL_BYTES_PER_REGION * len(durable_regions(layout))
    return 2 * (capacity_bytes + 8192) + 4096 + _SMALL_FILES_BYTES


def plan_lists(plan: StepPlan) -> tuple[tuple[Action, ...], ...]:
    """Return all lists of a plan."""
    return (plan.first, plan.steady, plan.commit, plan.flush)


def create_state(
    path: Path, extents: tuple[Extent, ...], notice: Callable[[str], None]
) -> DiskStore:
    """Create the file with all its space taken.

    Raises:
        StorageError: the disk is too full.
    """
    return DiskStore(path, extents, create=True, notice=notice)


def reopen_state(
    path: Path, layout: Layout, extents: tuple[Extent, ...], notice: Callable[[str], None]
) -> DiskStore:
    """Open an existing file and make its scratch part as long as this plan needs.

    Raises:
        StorageError: the durable part is not whole, or the disk is too full for the scratch part.
    """
    needed_bytes = layout_bytes(extents)
    size_bytes = path.stat().st_size if path.exists() else 0
    if size_bytes >= layout_bytes(durable_extents(layout)):
        _resize(path, needed_bytes)
    return DiskStore(path, extents, create=False, notice=notice)


def drop_scratch(path: Path, layout: Layout) -> None:
    """Give the disk space of the scratch part back; the store must be closed."""
    os.truncate(path, layout_bytes(durable_extents(layout)))


def _resize(path: Path, needed_bytes: int) -> None:
    """Take the space that is missing, and give back what a plan before has left behind."""
    file = os.open(path, os.O_RDWR)
    try:
        os.ftruncate(file, min(needed_bytes, os.fstat(file).st_size))
        os.posix_fallocate(file, 0, needed_bytes)
        os.fsync(file)
    except OSError as error:
        raise StorageError(
            f"{path} needs {format_bytes(needed_bytes)} on disk with this plan's scratch space: "
            f"{error.strerror}.\n  Free some space, or resume with more --memory, which moves less."
        ) from error
    finally:
        os.close(file)
