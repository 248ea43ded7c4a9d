"""From options to the step that the planner is asked for."""

from outsize.errors import UsageError
from outsize.spec.model import ModelSpec
from outsize.spec.workload import TrainWorkload
from outsize.train.options import TrainOptions

_MICRO_BATCH_TOKENS = 1024
"""Tokens of a micro-batch when the user does not say: from here on the matrix products run at full
rate.
"""


def make_workload(options: TrainOptions, model: ModelSpec) -> TrainWorkload:
    """Return the train step that the options describe.

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
    micro_batch = options.micro_batch_size or _default_micro_batch(rows, length)
    if rows % micro_batch:
        raise UsageError(
            f"--micro-batch-size {micro_batch} does not divide the {rows} rows of a step "
            f"({options.tokens_per_step} tokens of {length} a row)."
        )
    return TrainWorkload(
        rows_per_step=rows,
        micro_batch_rows=micro_batch,
        seq_length=length,
        dtype=options.dtype,
        clip=options.max_grad_norm > 0,
    )


def _default_micro_batch(rows: int, length: int) -> int:
    most = max(1, _MICRO_BATCH_TOKENS // length)
    return max(count for count in range(1, min(rows, most) + 1) if rows % count == 0)
