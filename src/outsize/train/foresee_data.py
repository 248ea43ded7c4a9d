"""How much a run has to do and what lies beside its state, before anything is tokenised: from an
estimate of its data, or from the folder of a run that goes on.
"""

from dataclasses import dataclass
from pathlib import Path

from outsize.train.budgets import allocated_bytes
from outsize.train.data.estimate import estimate_tokens
from outsize.train.data.manifest import EVALUATION_FOLDER, ROW_FILES, read_info
from outsize.train.data.row_count import num_set_aside
from outsize.train.options import PlanOptions
from outsize.train.run_folder import committed_step, steps_of_run
from outsize.train.totals import Steps, steps_of_rows

_TOKENIZER_BYTES = 4 * 2**20
_ITEM_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRun:
    """What is known of a run before it prepares anything.

    Attributes:
        steps: how much it has to do; None when the number of steps is not known.
        other_bytes: bytes on disk besides its state, by role.
    """

    steps: Steps | None
    other_bytes: dict[str, int]


def expected_run(options: PlanOptions) -> ExpectedRun:
    """Return what is known of a run from its options and its data.

    Raises:
        DataError: as the run itself would: there is no such data, or it cannot be read.
        RunError: the folder of a run that goes on is damaged.
        StorageError: its journal is.

    Cost: see `estimate_tokens`.
    """
    if options.resume is not None:
        return _going_on(options, Path(options.resume))
    train_rows, evaluation_rows = _rows(options)
    row_bytes = _ITEM_BYTES * (len(ROW_FILES) * options.max_seq_length + 1)
    rows_bytes = row_bytes * ((train_rows or 0) + (evaluation_rows or 0))
    return ExpectedRun(
        steps=_steps(options, train_rows, evaluation_rows),
        other_bytes=_other(_TOKENIZER_BYTES + rows_bytes),
    )


def _other(size_bytes: int) -> dict[str, int]:
    return {"tokenizer and data": size_bytes}


def _rows(options: PlanOptions) -> tuple[int | None, int | None]:
    """Return the rows to train on and those of one evaluation; None where they cannot be told."""
    rows = _estimate(options, options.data)
    if options.evaluation_data is not None:
        return rows, _estimate(options, options.evaluation_data)
    if not options.evaluation_fraction:
        return rows, 0
    if rows is None:
        return None, None
    aside = num_set_aside(rows, options.evaluation_fraction)
    return rows - aside, aside


def _estimate(options: PlanOptions, data: str | None) -> int | None:
    if data is None:
        return None
    return estimate_tokens(
        data,
        text_field=options.text_field,
        max_seq_length=options.max_seq_length,
        packing=options.packing,
    ).rows


def _steps(options: PlanOptions, num_rows: int | None, evaluation_rows: int | None) -> Steps | None:
    count, known_from = options.steps, "asked for"
    if count is None and num_rows is not None:
        rows_per_step = options.tokens_per_step // options.max_seq_length
        count = steps_of_rows(options, num_rows, rows_per_step)
        known_from = f"about {num_rows:,} rows of data"
    if count is None:
        return None
    return Steps(count=count, known_from=known_from, evaluation_rows=evaluation_rows)


def _going_on(options: PlanOptions, folder: Path) -> ExpectedRun:
    """Read from a run's folder what it has: the data that it was made from may be gone."""
    prepared = ("model", "data", "evaluation")
    return ExpectedRun(
        steps=Steps(
            count=steps_of_run(folder),
            known_from="as the run began" if options.steps is None else "asked for",
            done=committed_step(folder),
            evaluation_rows=_evaluation_rows(options, folder),
        ),
        other_bytes=_other(sum(allocated_bytes(folder / name) for name in prepared)),
    )


def _evaluation_rows(options: PlanOptions, folder: Path) -> int:
    if options.evaluation_data is not None:
        return read_info(folder / "evaluation").num_rows
    if options.evaluation_fraction:
        return read_info(folder / "data" / EVALUATION_FOLDER).num_rows
    return 0
