"""Bytes are predicted exactly: of runs that pause for evaluations, are interrupted, and go on."""

import signal
from pathlib import Path
from typing import Any

import pytest
from tiny_run import write_model

import outsize
from outsize import api
from outsize.errors import FormatError
from outsize.fields import build
from outsize.results import TrainResult
from outsize.runtime.events import Event, OnEvent, StepFinished, ignore
from outsize.train.options import TrainOptions


def text(folder: Path) -> str:
    data = folder / "data.txt"
    data.write_text("\n".join(f"{i} times {i} is {i * i}." for i in range(400)))
    return str(data)


def settings(folder: Path, **changes: object) -> dict[str, Any]:
    """Of a run that keeps everything in memory, so that only the clock's commits are not known."""
    found = {
        "model": str(write_model(folder / "model")), "data": text(folder), "steps": 4,
        "tokens_per_step": 128, "max_seq_length": 64, "evaluation_fraction": 0.2,
        "output": str(folder / "run"), "memory": "8GiB", "commit_seconds": 1e9,
    }  # fmt: skip
    return {key: value for key, value in (found | changes).items() if value is not None}


def moved(result: TrainResult) -> tuple[int, int]:
    """What a run has moved, which is what was predicted."""
    assert result.bytes_read == result.predicted_bytes_read > 0
    assert result.bytes_written == result.predicted_bytes_written
    return result.bytes_read, result.bytes_written


def interrupt_after(step: int) -> OnEvent:
    def on_event(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == step:
            signal.raise_signal(signal.SIGINT)

    return on_event


@pytest.mark.parametrize("commit_seconds", [1e9, 0.0])
@pytest.mark.parametrize("evaluation_steps", [None, 1, 2, 3, 4])
def test_bytes_with_evaluations_are_predicted_exactly(
    tmp_path: Path, evaluation_steps, commit_seconds
) -> None:
    asked = settings(tmp_path, evaluation_steps=evaluation_steps, commit_seconds=commit_seconds)
    _, written = moved(outsize.train(**asked))
    assert written > 0


@pytest.mark.parametrize("evaluation_steps", [None, 3])
def test_the_totals_of_a_plan_are_the_bytes_of_its_run(tmp_path: Path, evaluation_steps) -> None:
    asked = settings(tmp_path, evaluation_steps=evaluation_steps)
    total = api.dry_run(build(TrainOptions, asked | {"dry_run": True}), ignore).total
    assert total is not None
    assert total.evaluations == (1 if evaluation_steps is None else 2)
    assert (total.bytes_read, total.bytes_written) == moved(outsize.train(**asked))


@pytest.mark.parametrize("stop_after", [2, 4])
def test_the_rest_of_an_interrupted_run_is_predicted_exactly_too(
    tmp_path: Path, stop_after: int
) -> None:
    """After four steps an evaluation is due: the interrupted run has done it."""
    asked = settings(tmp_path, steps=6, evaluation_steps=4)
    first = outsize.train(**asked, on_event=interrupt_after(stop_after))
    assert (first.interrupted, first.steps) == (True, stop_after)
    assert moved(first)[1] > 0
    run = str(tmp_path / "run")
    total = outsize.plan(resume=run).total
    rest = outsize.train(resume=run)
    assert rest.resumed_from == stop_after
    assert total is not None
    assert (total.steps, total.done_steps) == (6 - stop_after, stop_after)
    assert total.evaluations == (2 if stop_after == 2 else 1)
    assert (total.bytes_read, total.bytes_written) == moved(rest)
    done = outsize.plan(resume=run).total
    assert done is not None
    assert (done.steps, done.evaluations) == (0, 1)
    assert (done.bytes_read, done.bytes_written) == moved(outsize.train(resume=run))


def test_a_plan_refuses_damaged_weights_as_the_run_does(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(FormatError, match=r"model.safetensors is truncated"):
        outsize.plan(
            str(model), data=text(tmp_path), steps=4, tokens_per_step=128, max_seq_length=64,
            memory="8GiB",
        )  # fmt: skip
