"""However much a run streams, its parts as predicted add up to the bytes that it has moved."""

from pathlib import Path

import pytest
from harness import TinyRun, make_options, make_rows, make_session, make_store, model_config

from outsize.models.registry import build
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.plan.whole_run import count_turns, pieces_of_plan, whole_run
from outsize.train.evaluate import Evaluator

NUM_STEPS = 6
EVALUATION_ROWS = 5


@pytest.mark.parametrize("arena", ["least", "medium", "whole"])
@pytest.mark.parametrize(("every", "commit_seconds"), [(None, 1e9), (2, 1e9), (4, 0.0)])
def test_a_run_moves_the_bytes_of_its_parts(
    arena: str, every: int | None, commit_seconds: float, tmp_path: Path
) -> None:
    options = make_options(
        dtype="bfloat16",
        evaluation_fraction=0.1,
        evaluation_steps=every,
        commit_seconds=commit_seconds,
    )
    model = build(model_config("Llama tied"), TORCH_DTYPES[options.dtype])
    session = make_session(model, options, arena=arena)
    rows = make_rows(tmp_path / "evaluation", num_rows=EVALUATION_ROWS, seed=2)
    run = TinyRun(
        session=session,
        options=options,
        rows=make_rows(tmp_path / "rows"),
        num_steps=NUM_STEPS,
        folder=tmp_path,
        store=make_store(session, evaluation=True),
        evaluation_rows=rows,
    )
    log = run.train()
    found = run.store.counters()
    num_passes = -(-EVALUATION_ROWS // session.layout.workload.rows_per_step)
    evaluation = Evaluator(session, rows).actions
    costs = session.profile.costs
    pieces = pieces_of_plan(
        session.planned, session.layout, session.machine, costs, evaluation, num_passes
    )
    turns = count_turns(
        pieces,
        done_steps=None,
        last_step=NUM_STEPS,
        evaluation_steps=every,
        commit_seconds=commit_seconds,
    )
    assert turns.evaluations == log.num_evaluations
    expected = whole_run(pieces, turns)
    moved = found.bytes_read, found.bytes_written
    assert moved == (expected.bytes_read, expected.bytes_written)
