"""What a run may take when nobody says, and what a refusal of the disk offers."""

import os
from pathlib import Path

import pytest

from outsize.errors import BudgetError
from outsize.store.budget import HostLimits
from outsize.train import budgets
from outsize.train.budgets import (
    LEAST_HOST_BYTES,
    allocated_bytes,
    disk_refusal,
    free_disk_bytes,
    host_budget_bytes,
)

GIB = 2**30
ROLES = {"scratch": GIB, "state": 3 * GIB, "nothing": 0}


def test_without_a_budget_most_of_what_is_free_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = HostLimits(free_bytes=8 * GIB, limit_bytes=9 * GIB, source="a group")
    monkeypatch.setattr(budgets, "host_limits", lambda: found)
    assert host_budget_bytes(None) == int(7.6 * GIB)
    assert host_budget_bytes(12 * GIB) == 12 * GIB


@pytest.mark.parametrize("asked", [1, LEAST_HOST_BYTES - 1])
def test_less_than_the_libraries_is_refused(asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    free = HostLimits(free_bytes=asked, limit_bytes=None, source="machine")
    monkeypatch.setattr(budgets, "host_limits", lambda: free)
    for budget in (asked, None):
        with pytest.raises(BudgetError, match=r"needs 400 MiB on host; the budget is") as caught:
            host_budget_bytes(budget)
        assert caught.value.needed_bytes == LEAST_HOST_BYTES
    assert host_budget_bytes(LEAST_HOST_BYTES) == LEAST_HOST_BYTES


def test_a_folder_may_take_what_is_free_and_what_it_has(tmp_path: Path) -> None:
    assert allocated_bytes(tmp_path / "none") == 0
    (tmp_path / "a" / "b").mkdir(parents=True)
    with (tmp_path / "a" / "b" / "file").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 3 * 2**20)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**33)
    assert 3 * 2**20 <= allocated_bytes(tmp_path) <= 3 * 2**20 + 2**16
    free = os.statvfs(tmp_path)
    assert abs(free_disk_bytes(tmp_path) - free.f_bavail * free.f_frsize) < GIB


def test_a_disk_with_room_is_asked_for_more_of_it() -> None:
    error = disk_refusal("Training m", ROLES, 2 * GIB, 50 * GIB)
    assert (error.needed_bytes, error.budget_bytes, error.tier) == (4 * GIB, 2 * GIB, "disk")
    assert [c.role for c in error.contributors] == ["state", "scratch"]
    assert [r.change for r in error.remedies] == [
        "--disk 4.0GiB",
        "--output DIR on a disk with as much free",
    ]
    odd = disk_refusal("Training m", {"state": 4 * GIB + 1}, 2 * GIB, 50 * GIB)
    assert odd.remedies[0].change == "--disk 4.1GiB"


def test_a_disk_without_room_is_not() -> None:
    error = disk_refusal("Training m", ROLES, 2 * GIB, 4 * GIB - 1)
    assert [r.change for r in error.remedies] == ["--output DIR on a disk with as much free"]


def test_another_machine_has_one_drive_and_it_is_told_how_large() -> None:
    full = disk_refusal("Training m", ROLES, 2 * GIB, 3 * GIB, "laptop")
    text = "Training m on laptop, whose drive has 3.00 GiB free, needs 4.00 GiB on disk"
    assert text in str(full)
    assert full.remedies == ()
    part = disk_refusal("Training m", ROLES, 2 * GIB, 50 * GIB, "laptop")
    assert [r.change for r in part.remedies] == ["--disk 4.0GiB"]
