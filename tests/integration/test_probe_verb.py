"""`outsize probe` from the command line to the file, with tiny sizes."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit" / "probe"))
from tiny_sizes import TINY

import outsize
from outsize.cli import main
from outsize.errors import MachineError, UsageError
from outsize.isolate import run_isolated
from outsize.machines.profile_file import load_profile
from outsize.machines.records import to_json
from outsize.probe import machine, sizes


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny sizes, and one child as it is; the others would only import the same libraries."""
    answers: dict[str, Any] = {
        "measure_baseline": {"baseline_bytes": 2**28, "has_accelerator": False},
        "measure_attention": {"attention": []},
        "measure_interference": {
            "compute_loss_s_per_byte": 0.0,
            "scratch_bytes": 0,
            "bytes_read": 0,
            "bytes_written": 0,
        },
    }

    def some(function: str, arguments: dict[str, Any]) -> Any:
        answer = answers.get(function.partition(":")[2])
        return run_isolated(function, arguments) if answer is None else answer

    monkeypatch.setattr(sizes, "FULL", TINY)
    monkeypatch.setattr(machine, "run_isolated", some)


def test_the_verb_measures_saves_and_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "runs", tmp_path / "new" / "mine.json"
    folder.mkdir()
    assert main(["probe", "--folder", str(folder), "--output", str(output), "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    body = json.loads(out.splitlines()[-1])
    profile = load_profile(output)
    assert body["command"] == "probe"
    assert body["profile"] == json.loads(json.dumps(to_json(profile)))
    assert (body["output"], body["folder"]) == (str(output), str(folder))
    assert body["profile"]["host"]["num_cores"] == 1
    assert body["measured_peak_bytes"]["disk"] > 0
    assert body["limits"]["num_files"] != 0
    assert "matrix products, GFLOP/s by rows" in err
    assert "overlap" in err
    assert str(output) in err
    assert os.listdir(folder) == []


def test_a_place_that_cannot_be_used_is_refused_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "run_isolated", lambda function, arguments: 1 / 0)
    with pytest.raises(UsageError, match=r"none is no folder; --folder names one on the disk"):
        outsize.probe(folder=str(tmp_path / "none"))
    with pytest.raises(MachineError, match=r"cannot be written: it is a folder\."):
        outsize.probe(folder=str(tmp_path), output=str(tmp_path))
    assert os.listdir(tmp_path) == []
