"""The command line, interrupted and killed from outside, against a run that nobody disturbed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest
from killed_runs import Server, losses_in
from tiny_run import write_model

NUM_STEPS = 60


class Outsize:
    """A running `python -m outsize`, killed at the end of the block if it still runs."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "outsize", *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_for_step(self, step: int) -> None:
        """Return when the line of that step was printed."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)
            if f" {step}/{NUM_STEPS} " in line:
                return
        raise AssertionError("".join(self._lines))

    def end(self, number: signal.Signals | None = None) -> tuple[int, dict[str, Any], str]:
        """Return exit code, JSON object and everything said, once a signal or the work ended it."""
        if number is not None:
            self._process.send_signal(number)
        out, err = self._process.communicate()
        result = json.loads(out.splitlines()[-1]) if out else {}
        return self._process.returncode, result, "".join(self._lines) + err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_text("\n".join(f"{i} times {i} is {i * i}." for i in range(300)))
    return path


def undisturbed_losses(server: Server, run: Path, model: Path, folder: Path) -> list[float]:
    """Train the same from the same rows in one go, with another plan."""
    for name in ("model", "data"):
        shutil.copytree(run / name, folder / name)
    options = json.loads((run / "run.json").read_text())["options"]
    for name in ("given", "output", "threads"):
        del options[name]
    answer = server.train(folder, weights=str(model), arena_bytes=2**20, **options)
    assert answer["result"]["steps"] == NUM_STEPS
    return losses_in(folder)


def test_an_interrupted_and_killed_run_equals_an_undisturbed_one(
    server: Server, model: Path, text: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with Outsize(
        "train", model, "--data", text, "--steps", NUM_STEPS, "--output", run,
        "--tokens-per-step", 128, "--max-seq-length", 64, "--micro-batch-size", 2,
        "--memory", "2GiB", "--commit-seconds", 0,
    ) as first:  # fmt: skip
        first.wait_for_step(3)
        code, result, said = first.end(signal.SIGINT)
    assert code == 130
    assert result["interrupted"]
    assert 3 <= result["steps"] < NUM_STEPS
    assert f"Interrupted after step {result['steps']}, which is committed." in said
    assert f"outsize train --resume {run}" in said

    with Outsize("train", "--resume", run) as second:
        second.wait_for_step(result["steps"] + 5)
        assert second.end(signal.SIGKILL)[0] == -signal.SIGKILL

    with Outsize("train", "--resume", run, "--memory", "3GiB") as third:
        code, last, said = third.end()
    assert code == 0, said
    assert last["resumed_from"] >= result["steps"] + 4
    assert last["steps"] == NUM_STEPS
    assert losses_in(run) == undisturbed_losses(server, run, model, tmp_path / "undisturbed")
