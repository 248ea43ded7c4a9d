"""From options to the step that the planner is asked for."""

from outsize.errors import UsageError
from outsize.spec.model import ModelSpec
from outsize.spec.workload import TrainWorkload
from outsize.train.options import TrainOptions

_MICRO_BATCH_TOKENS = 1024
"""Tokens of a micro-batch when the user does not say: from here on the matrix products run at full
rate.
"""


def make_workload(options: TrainOptions, model: ModelSpec) -> tuple[TrainWorkload, ...]:
    """Return the train step that the options describe, with each micro-batch that may be chosen:
    the one that the options name, or about 1024 tokens first and then ever smaller ones; the
    smallest one first where the objective is memory.

    Raises:
        UsageError: the row is longer than the model allows, or the numbers do not divide.
    """
    length = options.max_seq_length
    if model.max_positions is not None and length > model.max_positions:
        raise UsageError(
            f"--max-seq-length {length} is longer than the {model.max_positions} positions that "
            f"{options.model} was made for; use --max-seq-length {model.max_positions} or less."
        )
    if options.tokens_per_step % length:
        nearest = max(1, round(options.tokens_per_step / length)) * length
        raise UsageError(
            f"--tokens-per-step {options.tokens_per_step} is not a multiple of "
            f"--max-seq-length {length}; try --tokens-per-step {nearest}."
        )
    rows = options.tokens_per_step // length
    if options.micro_batch_size is not None and rows % options.micro_batch_size:
        raise UsageError(
            f"--micro-batch-size {options.micro_batch_size} does not divide the {rows} rows of a "
            f"step ({options.tokens_per_step} tokens of {length} a row)."
        )
    return tuple(
        TrainWorkload(
            rows_per_step=rows,
            micro_batch_rows=count,
            seq_length=length,
            dtype=options.dtype,
            clip=options.max_grad_norm > 0,
        )
        for count in _micro_batches(options, rows)
    )


def _micro_batches(options: TrainOptions, rows: int) -> tuple[int, ...]:
    if options.micro_batch_size is not None:
        return (options.micro_batch_size,)
    most = max(1, _MICRO_BATCH_TOKENS // options.max_seq_length)
    counts = tuple(n for n in range(min(rows, most), 0, -1) if rows % n == 0)
    return counts[::-1] if options.objective == "memory" else counts
