import datetime
import os
from dataclasses import replace
from pathlib import Path

import pytest
from made_profiles import DISK, HOST, PROFILE

from outsize.machines.fingerprint import machine_fingerprint
from outsize.machines.profile_file import load_profile, save_profile
from outsize.probe import known
from outsize.probe.disk_blocks import MeasuredDisk
from outsize.probe.known import known_machine
from outsize.probe.limits import process_limits
from outsize.probe.mounts import disk_name
from outsize.runtime.events import Event, Notice, OnEvent
from outsize.spec.machine import MachineProfile


class _Machine:
    """This machine, which counts how often it is measured."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.path = home / "machine.json"
        self.folder = folder
        self.fresh = replace(
            PROFILE,
            fingerprint=machine_fingerprint(),
            measured_at=datetime.datetime.now(datetime.UTC).isoformat(),
            disk=replace(DISK, name=disk_name(folder)),
        )
        self.num_probes = 0
        self.num_disks = 0
        self.notices: list[str] = []

    def probe(
        self, folder: Path, on_event: OnEvent, *, threads: int | None = None
    ) -> MachineProfile:
        assert folder == self.folder
        self.num_probes += 1
        return replace(self.fresh, fingerprint=machine_fingerprint(threads))

    def measure_disk(self, folder: Path, on_event: OnEvent, sizes: object) -> MeasuredDisk:
        self.num_disks += 1
        disk = replace(DISK, name=disk_name(folder), read_bytes_per_s=5e9)
        return MeasuredDisk(
            disk=disk, is_direct=True, scratch_bytes=1, bytes_read=1, bytes_written=1
        )

    def known(self, threads: int | None = None) -> MachineProfile:
        self.notices.clear()
        return known_machine(self.folder, self._on_event, threads=threads)

    def _on_event(self, event: Event) -> None:
        assert isinstance(event, Notice)
        self.notices.append(event.text)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Machine:
    home, folder = tmp_path / "home", tmp_path / "run"
    folder.mkdir()
    machine = _Machine(home, folder)
    monkeypatch.setenv("OUTSIZE_HOME", str(home))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(known, "probe_in_child", machine.probe)
    monkeypatch.setattr(known, "measure_disk", machine.measure_disk)
    return machine


def test_the_first_run_measures_and_the_next_ones_do_not(made: _Machine) -> None:
    first = made.known()
    assert (made.num_probes, load_profile(made.path)) == (1, first)
    assert made.notices == [
        "this machine was not measured before; measuring this machine takes up to a minute, "
        f"is done once and is kept in {made.path}."
    ]
    second = made.known()
    assert (made.num_probes, made.num_disks, made.notices) == (1, 0, [])
    assert second.host.matmul == HOST.matmul


def test_what_changes_by_the_hour_is_read_anew(made: _Machine) -> None:
    save_profile(made.fresh, made.path)
    profile = made.known()
    assert profile.host.memory_bytes == process_limits().usable_memory_bytes
    assert profile.disk.free_bytes != DISK.free_bytes


def test_a_stale_profile_is_replaced_and_the_reason_told(made: _Machine) -> None:
    save_profile(replace(made.fresh, measured_at="2020-01-01T00:00:00+00:00"), made.path)
    made.known()
    assert made.num_probes == 1
    text = "the saved profile of this machine does not hold any more: it is "
    assert made.notices[0].startswith(text)
    assert load_profile(made.path).measured_at == made.fresh.measured_at


def test_fewer_threads_are_a_share_of_the_machine_and_never_replace_its_profile(
    made: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    usual = replace(made.fresh, fingerprint=machine_fingerprint(), host=replace(HOST, num_cores=4))
    save_profile(usual, made.path)
    for threads in (1, None):
        assert made.known(threads).fingerprint == usual.fingerprint
    half = made.known(threads=2)
    assert [rate.flops_per_s for rate in half.host.matmul] == [
        rate.flops_per_s / 2 for rate in HOST.matmul
    ]
    assert [rate.backward_flops_per_s for rate in half.host.attention] == [
        rate.backward_flops_per_s / 2 for rate in HOST.attention
    ]
    assert half.host.memory_bytes_per_s == HOST.memory_bytes_per_s
    assert made.known(threads=97).host.matmul == HOST.matmul
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert made.known().host.matmul == half.host.matmul
    assert (made.num_probes, made.notices) == (0, [])
    assert load_profile(made.path) == usual


def test_a_profile_that_was_measured_with_so_many_threads_is_taken(made: _Machine) -> None:
    save_profile(made.fresh, made.path)
    own = replace(made.fresh, name="own", fingerprint=machine_fingerprint(97))
    save_profile(own, made.path.with_name("machine-97-threads.json"))
    assert made.known(threads=97).name == "own"
    assert made.known().name == made.fresh.name
    assert made.num_probes == 0


def test_the_first_run_with_other_threads_measures_those(made: _Machine) -> None:
    made.known(threads=97)
    made.known(threads=97)
    assert made.num_probes == 1
    assert [path.name for path in made.path.parent.iterdir()] == ["machine-97-threads.json"]


def test_a_damaged_profile_is_replaced(made: _Machine) -> None:
    made.path.parent.mkdir()
    made.path.write_text('{"format": 1')
    made.known()
    assert made.num_probes == 1
    start = f"The machine profile {made.path} cannot be used: it is not JSON"
    assert made.notices[0].startswith(start)
    assert "; measuring this machine takes up to a minute" in made.notices[0]
    assert "outsize probe" not in made.notices[0]
    assert load_profile(made.path) == made.fresh


def test_a_home_that_cannot_be_written_is_told_once(
    made: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    made.known()
    assert made.num_probes == 1
    assert len(made.notices) == 1
    assert "again in every run, for it cannot be kept: The machine profile" in made.notices[0]
    assert not made.path.exists()


def test_a_saved_profile_that_cannot_be_replaced_still_serves(
    made: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_profile(made.fresh, made.path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    made.known()
    assert (made.num_probes, made.notices) == (0, [])


def test_a_disk_that_has_become_full_is_told(
    made: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert made.known() == made.fresh
    assert "cannot be written: No space left on device" in made.notices[-1]


def test_without_a_home_the_run_goes_on(made: _Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("OUTSIZE_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    made.known()
    assert made.num_probes == 1
    assert "This user has no home folder" in made.notices[0]


def test_another_disk_is_measured_once_and_kept_apart(made: _Machine) -> None:
    other = replace(DISK, name="nfs on far:/away")
    save_profile(replace(made.fresh, disk=other), made.path)
    profile = made.known()
    assert (made.num_probes, made.num_disks) == (0, 1)
    assert profile.disk.read_bytes_per_s == 5e9
    assert profile.host.matmul == HOST.matmul
    name = disk_name(made.folder)
    text = f"{made.folder} lies on another disk than the saved profile's, {name}: measuring that."
    assert made.notices == [text]
    assert load_profile(made.path).disk == other
    again = made.known()
    assert (made.num_probes, made.num_disks, made.notices) == (0, 1, [])
    assert again.disk.read_bytes_per_s == 5e9
    (kept,) = made.path.parent.glob("machine-disk-*.json")
    kept.write_text("{")
    made.known()
    assert made.num_disks == 2


def test_a_machine_of_the_catalogue_is_taken_as_it_is(made: _Machine) -> None:
    chosen = replace(PROFILE, fingerprint=None, measured_at=None)
    save_profile(chosen, made.path)
    assert made.known() == chosen
    assert (made.num_probes, made.num_disks, made.notices) == (0, 0, [])
