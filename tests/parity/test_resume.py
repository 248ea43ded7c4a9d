"""A run that was stopped and resumed equals one that was not, bit for bit.

`tests/integration/test_kill.py` does the same with processes that are killed.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness import (
    LateStore,
    TinyRun,
    assert_equal_states,
    make_options,
    make_rows,
    make_session,
    make_store,
    model_config,
)

from outsize.models.registry import build
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.runtime.events import Committed, Evaluated, Event
from outsize.train.options import TrainOptions

NUM_STEPS = 6


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_runs(
    folder: Path, options: TrainOptions, *arenas: str, evaluate: bool = False
) -> list[TinyRun]:
    """One run for each arena; they share folder and disk, so each goes on with the one before."""
    folder.mkdir()
    model = build(model_config("Llama tied"), TORCH_DTYPES[options.dtype])
    sessions = [make_session(model, options, arena=arena) for arena in arenas]
    store = make_store(*sessions, evaluation=evaluate)
    rows = make_rows(folder / "rows")
    evaluation_rows = make_rows(folder / "evaluation", num_rows=5, seed=2) if evaluate else None
    return [
        TinyRun(
            session=session,
            options=options,
            rows=rows,
            num_steps=NUM_STEPS,
            folder=folder,
            store=store,
            evaluation_rows=evaluation_rows,
        )
        for session in sessions
    ]


@pytest.mark.parametrize("arenas", [("least", "least"), ("whole", "whole"), ("least", "whole")])
@pytest.mark.parametrize("stop_after", [1, 4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    dtype: str, stop_after: int, arenas: tuple[str, str], tmp_path: Path
) -> None:
    options = make_options(dtype=dtype)
    (whole,) = make_runs(tmp_path / "whole", options, "medium")
    expected = whole.train()
    first, second = make_runs(tmp_path / "parts", options, *arenas)
    before = first.train(stop_after=stop_after)
    assert before.interrupted
    assert len(before.losses) == stop_after
    after = second.train()
    assert not after.interrupted
    assert before.losses + after.losses == expected.losses
    assert_equal_states(second.state(), whole.state())


def test_many_stops_with_other_plans_change_nothing(tmp_path: Path) -> None:
    options = make_options(dtype="bfloat16", commit_seconds=0.0)
    (whole,) = make_runs(tmp_path / "whole", options, "whole")
    expected = whole.train()
    runs = make_runs(tmp_path / "parts", options, *("least", "whole", "medium") * 2)
    losses = [loss for run in runs for loss in run.train(stop_after=1).losses]
    assert losses == expected.losses
    assert_equal_states(runs[0].state(), whole.state())


@pytest.mark.parametrize("arena", ["least", "whole"])
def test_evaluation_of_a_resumed_run_equals_that_of_an_uninterrupted_one(
    arena: str, tmp_path: Path
) -> None:
    options = make_options(dtype="bfloat16", evaluation_fraction=0.1, evaluation_steps=2)
    (whole,) = make_runs(tmp_path / "whole", options, "medium", evaluate=True)
    expected = _events_of(whole)
    first, second = make_runs(tmp_path / "parts", options, arena, "least", evaluate=True)
    found = _events_of(first, stop_after=3) + _events_of(second)
    assert _evaluations(found) == _evaluations(expected)
    assert [step for step, _ in _evaluations(found)] == [2, 4, 6]


def test_a_stop_commits_every_step_that_was_told(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path / "run", make_options(commit_seconds=1e9), "whole")
    events = _events_of(run, stop_after=4)
    assert [e.step for e in events if isinstance(e, Committed)] == [4]


def test_a_run_that_is_done_does_nothing_more(tmp_path: Path) -> None:
    first, again = make_runs(tmp_path / "run", make_options(), "medium", "least")
    first.train()
    state = first.state()
    assert isinstance(first.store, LateStore)
    written = first.store.counters().bytes_written
    assert again.train().losses == []
    assert_equal_states(again.state(), state)
    assert first.store.counters().bytes_written == written


def _events_of(run: TinyRun, stop_after: int | None = None) -> list[Event]:
    events: list[Event] = []
    replace(run, on_event=events.append).train(stop_after=stop_after)
    return events


def _evaluations(events: list[Event]) -> list[tuple[int, float]]:
    return [(e.step, e.loss) for e in events if isinstance(e, Evaluated)]
