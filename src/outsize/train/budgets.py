"""What a run may take on each tier: what the user allows, or what is really free. No torch."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from outsize.errors import BudgetError, Contributor, Remedy
from outsize.quantities import format_bytes
from outsize.store.budget import host_limits

TWO_COPIES = "state, two copies"
"""Role of the training state on disk, of which one copy is always whole."""

LEAST_HOST_BYTES = 400 * 2**20
"""PyTorch, Transformers and one small layer do not fit below this; checked before they are
imported.
"""

_MARGIN_FRACTION = 0.05
"""Of what is free, when the user names no budget: other processes grow too."""


def host_budget_bytes(asked_bytes: int | None) -> int:
    """Return the budget of the whole process: what was asked for, or what is free less a margin.

    Raises:
        BudgetError: it is too small for the libraries alone.
    """
    budget_bytes = asked_bytes
    if budget_bytes is None:
        budget_bytes = int(host_limits().free_bytes * (1 - _MARGIN_FRACTION))
    if budget_bytes < LEAST_HOST_BYTES:
        raise BudgetError(
            "Training even a small model",
            needed_bytes=LEAST_HOST_BYTES,
            budget_bytes=budget_bytes,
            tier="host",
            contributors=(
                Contributor(role="PyTorch, Transformers and data", size_bytes=LEAST_HOST_BYTES),
            ),
        )
    return budget_bytes


def free_disk_bytes(folder: Path) -> int:
    """Return what a folder may take on its disk in all: what is free, and what it has already."""
    return shutil.disk_usage(folder).free + allocated_bytes(folder)


def allocated_bytes(path: Path) -> int:
    """Bytes that a folder's files take on disk."""
    if not path.exists():
        return 0
    return sum(p.stat().st_blocks * 512 for p in path.rglob("*") if p.is_file())


def disk_refusal(
    subject: str,
    disk_bytes: Mapping[str, int],
    budget_bytes: int,
    free_bytes: int,
    machine: str | None = None,
    resumed: bool = False,
) -> BudgetError:
    """Return the error for a run whose files are larger than the disk budget.

    Args:
        subject: what was asked for.
        disk_bytes: predicted bytes by role.
        budget_bytes: what is allowed.
        free_bytes: what there would be room for.
        machine: name of a machine that is not at hand, which has one drive; None for this one.
        resumed: whether the run goes on, and so keeps the files that it has.
    """
    needed_bytes = sum(disk_bytes.values())
    remedies = []
    if needed_bytes <= free_bytes:
        gib = math.ceil(needed_bytes / 2**30 * 10) / 10
        remedies.append(Remedy(change=f"--disk {gib}GiB", needed_bytes=needed_bytes))
    in_place_bytes = needed_bytes - disk_bytes.get(TWO_COPIES, 0) // 2
    if in_place_bytes <= budget_bytes and not resumed:
        remedies.append(Remedy(change="--in-place", needed_bytes=in_place_bytes))
    if machine is None:
        change = "--output DIR on a disk with as much free"
        remedies.append(Remedy(change=change, needed_bytes=needed_bytes))
    else:
        subject = f"{subject} on {machine}, whose drive has {format_bytes(free_bytes)} free,"
    roles = sorted(disk_bytes.items(), key=lambda entry: -entry[1])
    return BudgetError(
        subject,
        needed_bytes=needed_bytes,
        budget_bytes=budget_bytes,
        tier="disk",
        contributors=tuple(Contributor(role=r, size_bytes=size) for r, size in roles if size),
        remedies=tuple(remedies),
    )
