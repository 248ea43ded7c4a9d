"""The whole probe with tiny sizes, its children's functions called in this process."""

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from made_profiles import GPU
from tiny_sizes import TINY

from outsize.machines.fingerprint import machine_fingerprint
from outsize.machines.profile_file import load_profile, save_profile
from outsize.machines.records import to_json
from outsize.probe import machine
from outsize.probe.host import measure_baseline
from outsize.probe.machine import measure_machine, probe_in_child
from outsize.probe.sizes import FULL
from outsize.runtime.events import Event, Notice, PhaseAdvanced, PhaseFinished


class _Children:
    """Answers for child processes; what the test sets instead is not run."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.answers: dict[str, Any] = {}

    def __call__(self, function: str, arguments: dict[str, Any]) -> Any:
        module, _, name = function.partition(":")
        self.called.append(name)
        if name in self.answers:
            return self.answers[name]
        sent = json.loads(json.dumps(arguments))
        return json.loads(json.dumps(getattr(importlib.import_module(module), name)(**sent)))


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> _Children:
    made = _Children()
    made.answers["measure_baseline"] = {"baseline_bytes": 2**28, "has_accelerator": False}
    monkeypatch.setattr(machine, "run_isolated", made)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    return made


def test_the_parts_become_a_profile_that_can_be_saved(tmp_path: Path, children: _Children) -> None:
    events: list[Event] = []
    measured = measure_machine(tmp_path, events.append, sizes=TINY)
    profile = measured.profile
    assert profile.fingerprint == machine_fingerprint()
    assert (profile.baseline_bytes, profile.accelerator) == (2**28, None)
    assert len(profile.host.matmul) == 8
    assert len(profile.host.attention) == 4
    assert len(profile.disk.blocks) == 2
    assert profile.compute_loss_s_per_byte >= 0
    assert measured.bytes_read > 0
    assert measured.bytes_written > measured.scratch_bytes > 0
    phases = [event.phase for event in events if isinstance(event, PhaseFinished)]
    assert phases == ["libraries", "products", "attention", "disk", "overlap"]
    assert [event.done for event in events if isinstance(event, PhaseAdvanced)] == [1, 2]
    path = tmp_path / "machine.json"
    save_profile(profile, path)
    assert load_profile(path) == profile
    assert os.listdir(tmp_path) == ["machine.json"]


def test_a_gpu_is_measured_when_there_is_one(tmp_path: Path, children: _Children) -> None:
    children.answers["measure_baseline"]["has_accelerator"] = True
    children.answers["measure_device"] = {"accelerator": to_json(GPU), "problem": None}
    assert probe_in_child(tmp_path, sizes=TINY).accelerator == GPU


def test_a_gpu_that_cannot_be_measured_is_left_out_and_told(
    tmp_path: Path, children: _Children
) -> None:
    children.answers["measure_baseline"]["has_accelerator"] = True
    children.answers["measure_device"] = {"accelerator": None, "problem": "out of memory"}
    events: list[Event] = []
    assert probe_in_child(tmp_path, events.append, sizes=TINY).accelerator is None
    text = "the GPU is left out, it cannot be measured: out of memory."
    assert Notice(text=text) in events


def test_threads_are_told_to_the_children_and_to_the_fingerprint(
    tmp_path: Path, children: _Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.set_num_threads", lambda threads: children.called.append(threads))
    profile = probe_in_child(tmp_path, threads=1, sizes=TINY)
    assert profile.host.num_cores == 1
    assert profile.fingerprint == machine_fingerprint(1)
    assert children.called.count(1) == 3


def test_a_busy_machine_is_told(
    tmp_path: Path, children: _Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (64.0, 0.0, 0.0))
    events: list[Event] = []
    probe_in_child(tmp_path, events.append, sizes=TINY)
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert len(notices) == 1
    assert notices[0].startswith("other programs keep 64.0 of ")
    assert notices[0].endswith("Run `outsize probe` again when it is idle.")


def test_the_baseline_is_what_the_libraries_weigh() -> None:
    baseline = measure_baseline()
    assert baseline["baseline_bytes"] > 100 * 2**20
    assert baseline["has_accelerator"] in (True, False)


def test_the_full_sizes_are_whole() -> None:
    assert max(FULL.disk.block_bytes) == FULL.disk.block_bytes[-1]
    assert FULL.disk.section_bytes >= 2 * FULL.disk.block_bytes[-1]
    assert FULL.host.rows == (1, 16, 64, 256, 1024, 4096)
    assert FULL.host.seq_lengths == (128, 512, 1024, 4096)
    assert FULL.host.working_bytes <= 128 * 2**20
