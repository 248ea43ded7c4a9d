import datetime
import os
from pathlib import Path

import pytest
from made_profiles import profile

from outsize.machines.fingerprint import (
    machine_fingerprint,
    num_compute_threads,
    processor_name,
    staleness,
)

_NOW = datetime.datetime(2026, 1, 3, tzinfo=datetime.UTC)
_SAVED = profile().fingerprint or ""


def _proc(folder: Path, text: str) -> Path:
    (folder / "cpuinfo").write_text(text)
    return folder


def test_the_fingerprint_is_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = _proc(tmp_path, "processor\t: 0\nmodel name\t: Fast  One, 2nd\x1b\n")
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 6_170_000}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3})
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    text = "Fast One, 2nd, 2 cores, 24 GiB, torch 2.13.0+cpu"
    assert machine_fingerprint(proc=proc) == text
    assert machine_fingerprint(threads=2, proc=proc) == text
    one = "Fast One, 2nd, 1 thread on 2 cores, 24 GiB, torch 2.13.0+cpu"
    assert machine_fingerprint(threads=1, proc=proc) == one
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine_fingerprint(proc=proc) == one
    assert machine_fingerprint(threads=2, proc=proc) == text


def test_without_the_kernels_figures_there_is_still_a_name(tmp_path: Path) -> None:
    assert processor_name(tmp_path)
    assert processor_name(_proc(tmp_path, "model name:\n"))


def test_a_setting_that_is_no_number_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    for text in ("many", "0", "-2", "2,1"):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert num_compute_threads() == 3


def test_the_same_machine_soon_after_is_fresh() -> None:
    assert staleness(profile(), _SAVED, _NOW) is None


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (
            "Fast One, 4 cores, 24 GiB, torch 2.13.0",
            "the machine has 4 cores instead of 2 cores",
        ),
        (
            "Slow One, 2nd, 2 cores, 24 GiB, torch 2.14.0",
            "the machine has Slow One, 2nd instead of Fast One; "
            "torch 2.14.0 instead of torch 2.13.0",
        ),
        ("something", f"it was measured on another machine, {_SAVED}"),
    ],
)
def test_another_machine_is_explained_part_by_part(now: str, reason: str) -> None:
    assert staleness(profile(), now, _NOW) == reason


def test_a_profile_grows_old_after_90_days() -> None:
    def at(moment: str) -> str | None:
        return staleness(profile(measured_at=moment), _SAVED, _NOW)

    assert at("2025-10-05T00:00:01+00:00") is None
    assert at("2025-10-04T00:00:00+00:00") == "it is 91 days old, and 90 are allowed"
    assert at("0001-01-01T00:00:00+14:00") is not None
    assert at("2026-01-03T00:30:00+00:00") is None  # a clock that was a little off
    assert at("2026-01-03T12:00:00+12:00") is None
    assert at("2026-01-04T00:00:00+00:00") == (
        "it is dated in the future, 2026-01-04T00:00:00+00:00"
    )


def test_a_machine_of_the_catalogue_fits_any() -> None:
    assert staleness(profile(fingerprint=None, measured_at=None), "anything", _NOW) is None
