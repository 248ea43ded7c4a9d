"""From the parts of a run to the totals of its plan, on machines with and without an accelerator.

`plan/whole_run.py` counts the parts and says what each takes.
"""

import math
from dataclasses import dataclass

from outsize.plan.whole_run import Pieces, count_turns, whole_run
from outsize.spec.machine import MachineProfile
from outsize.spec.workload import TrainWorkload
from outsize.train.options import TrainOptions
from outsize.train.plan_result import Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How much a run has to do, and how that is known.

    Attributes:
        count: steps of the whole run, those that are done included.
        known_from: how they are known, in words.
        done: steps that are committed already; None before there is a state, which is made first.
        evaluation_rows: rows of one evaluation; None when they cannot be told.
    """

    count: int
    known_from: str
    done: int | None = None
    evaluation_rows: int | None = 0


def steps_of_rows(options: TrainOptions, num_rows: int, rows_per_step: int) -> int:
    """Return the steps of a run over so many rows."""
    epochs = options.epochs if options.epochs is not None else 1.0
    return max(1, math.ceil(epochs * num_rows / rows_per_step))


def evaluation_passes(steps: Steps | None, workload: TrainWorkload) -> int:
    """Return how often a step's worth of rows is evaluated in one evaluation; 0 where the rows
    cannot be told.
    """
    rows = 0 if steps is None else steps.evaluation_rows or 0
    return -(-rows // workload.rows_per_step)


def totals(
    options: TrainOptions, machine: MachineProfile, pieces: Pieces, steps: Steps | None
) -> Totals | None:
    """Return what a run takes from now to its end.

    Args:
        options: of the run.
        machine: that it is planned for.
        pieces: what its parts take.
        steps: how much it has to do; None when that is not known.
    """
    if steps is None:
        return None
    turns = count_turns(
        pieces,
        done_steps=steps.done,
        last_step=steps.count,
        evaluation_steps=options.evaluation_steps,
        commit_seconds=options.commit_seconds,
    )
    taken = whole_run(pieces, turns)
    done, endurance = steps.done or 0, machine.disk.endurance_bytes
    is_unknown = pieces.evaluation is not None and steps.evaluation_rows is None
    return Totals(
        steps=max(0, steps.count - done),
        steps_from=f"{done:,} of {steps.count:,} are done" if done else steps.known_from,
        done_steps=done,
        evaluations=turns.evaluations,
        not_counted="the evaluations, whose rows cannot be told" if is_unknown else None,
        seconds=taken.seconds,
        bytes_read=taken.bytes_read,
        bytes_written=taken.bytes_written,
        wear_fraction=None if endurance is None else taken.bytes_written / endurance,
    )
