"""From the parts of a run to its totals: what is left, what is evaluated, and what is not known."""

from dataclasses import replace

import pytest

from outsize.machines.catalogue import catalogue_machine
from outsize.plan.whole_run import Piece, Pieces
from outsize.spec.workload import TrainWorkload
from outsize.train.options import TrainOptions
from outsize.train.plan_result import Totals
from outsize.train.totals import Steps, evaluation_passes, steps_of_rows, totals

MACHINE = catalogue_machine("laptop")
PIECES = Pieces(
    import_state=Piece(seconds=3.0, bytes_written=10**9),
    start=Piece(seconds=4.0, bytes_read=10),
    steady=Piece(seconds=2.0, bytes_read=100, bytes_written=1000),
    commit=Piece(seconds=2.5, bytes_read=100, bytes_written=1500),
    flush=Piece(seconds=1.0, bytes_read=1, bytes_written=5),
    evaluation=None,
    commits_every_step=False,
)
WORKLOAD = TrainWorkload(
    rows_per_step=4, micro_batch_rows=2, seq_length=64, dtype="bfloat16", clip=True
)


def options(**changes: object) -> TrainOptions:
    return TrainOptions(model="my-model", data="none", commit_seconds=1e9, **changes)


def found(steps: Steps | None, pieces: Pieces = PIECES, **changes: object) -> Totals:
    total = totals(options(**changes), MACHINE, pieces, steps)
    assert total is not None
    return total


def test_a_new_run_has_everything_before_it() -> None:
    total = found(Steps(count=11, known_from="asked for"))
    assert (total.steps, total.steps_from, total.done_steps) == (11, "asked for", 0)
    assert (total.bytes_read, total.bytes_written) == (10 + 1 + 1000, 10**9 + 5 + 10_000)
    assert total.seconds == 3.0 + 4.0 + 10 * 2.0 + 1.0
    assert (total.evaluations, total.not_counted) == (0, None)


def test_a_run_that_goes_on_has_the_rest_and_no_first_state() -> None:
    total = found(Steps(count=1000, known_from="as the run began", done=990))
    assert (total.steps, total.done_steps) == (10, 990)
    assert total.steps_from == "990 of 1,000 are done"
    assert total.bytes_written == 5 + 9 * 1000
    assert total.seconds == 4.0 + 9 * 2.0 + 1.0
    done = found(Steps(count=1000, known_from="", done=1000))
    assert (done.steps, done.bytes_read, done.bytes_written, done.seconds) == (0, 0, 0, 0.0)


def test_evaluations_and_the_pauses_around_them_count() -> None:
    pieces = replace(PIECES, evaluation=Piece(seconds=6.0, bytes_read=500))
    steps = Steps(count=10, known_from="", evaluation_rows=8)
    total = found(steps, pieces, evaluation_fraction=0.1, evaluation_steps=4)
    assert total.evaluations == 3  # after 4, after 8, and at the end
    assert total.bytes_read == 3 * (10 + 1 + 500) + 7 * 100
    assert total.seconds == 3.0 + 3 * (4.0 + 1.0 + 6.0) + 7 * 2.0
    assert found(steps, pieces, evaluation_fraction=0.1).evaluations == 1


def test_evaluations_whose_rows_cannot_be_told_are_named() -> None:
    pieces = replace(PIECES, evaluation=Piece())
    steps = Steps(count=10, known_from="", evaluation_rows=None)
    total = found(steps, pieces, evaluation_fraction=0.1, evaluation_steps=4)
    assert total.not_counted == "the evaluations, whose rows cannot be told"
    assert total.bytes_read == 3 * (10 + 1) + 7 * 100


def test_a_run_of_unknown_length_has_no_totals() -> None:
    assert totals(options(), MACHINE, PIECES, None) is None


@pytest.mark.parametrize(
    ("rows", "epochs", "steps"),
    [(40, None, 10), (41, None, 11), (40, 0.5, 5), (40, 2.5, 25), (1, None, 1), (0, 3.0, 1)],
)
def test_steps_cover_the_rows_of_all_epochs(rows, epochs, steps) -> None:
    assert steps_of_rows(options(epochs=epochs), rows, 4) == steps


@pytest.mark.parametrize(("rows", "passes"), [(0, 0), (1, 1), (4, 1), (5, 2), (None, 0)])
def test_an_evaluation_passes_a_step_of_rows_at_a_time(rows, passes) -> None:
    steps = Steps(count=1, known_from="", evaluation_rows=rows)
    assert evaluation_passes(steps, WORKLOAD) == passes
    assert evaluation_passes(None, WORKLOAD) == 0
