"""From options to the step that the planner is asked for."""

from outsize.errors import UsageError
from outsize.spec.model import ModelSpec
from outsize.spec.workload import TrainWorkload
from outsize.train.options import TrainOptions
from outsize.values import OptimizerName

_MICRO_BATCH_TOKENS = 1024
"""Tokens of a micro-batch when the user does not say: from here on the matrix products run at full
rate.
"""

_MOST_BALANCED_TOKENS = 4096
_MOST_IDLE = 0.05
"""Attention's backward runs each head of each row on one thread. Where that leaves more than a
twentieth of the threads' time idle, a micro-batch may have this many tokens to share it evenly.
"""

MOST_PASSES = 4096
"""Passes of a micro-batch through a layer that one step may have; forward and backward are one.

Each makes about two stays of regions; placing 8192 stays in three orders takes some 6 s, 60 ns for
each pair (`plan/memory.py`); twice as many take four times as long.
"""


def make_workload(
    options: TrainOptions, model: ModelSpec, num_threads: int | None = None
) -> tuple[TrainWorkload, ...]:
    """Return the train step that the options describe, with each micro-batch that may be chosen:
    the one that the options name, or about 1024 tokens first (more where a step would have more
    than `MOST_PASSES`, or where attention would leave some of the `num_threads` idle) and then ever
    smaller ones; the smallest one first where the objective is memory.

    Raises:
        UsageError: the row is longer than the model allows, the numbers do not divide, or a plan of
            so many micro-batches would take minutes.
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
            packed_attention=options.packed_attention,
            optimizer=optimizer_of(options),
            num_moments=num_moments(options),
            moment_bits=8 if options.optim.endswith("8bit") else 32,
            trained_dtype="float32" if options.has_adapters else None,
        )
        for count in _micro_batches(options, rows, model, num_threads)
    )


def optimizer_of(options: TrainOptions) -> OptimizerName:
    """Return the optimizer that the options name in the words of the Hugging Face trainers."""
    match options.optim:
        case "lion_32bit" | "lion_8bit":
            return "lion"
        case "sgd":
            return "sgd"
    return "adamw"


def num_moments(options: TrainOptions) -> int:
    """Return how many numbers the optimizer remembers for each weight."""
    match optimizer_of(options):
        case "adamw":
            return 2
        case "lion":
            return 1
        case "sgd":
            return int(options.sgd_momentum > 0)


def _micro_batches(
    options: TrainOptions, rows: int, model: ModelSpec, num_threads: int | None
) -> tuple[int, ...]:
    num_layers = len(model.layers)
    most = MOST_PASSES // num_layers
    if not most:
        raise UsageError(
            f"{options.model} has {num_layers:,} layers, and a plan takes at most {MOST_PASSES:,}; "
            "use a model with fewer."
        )
    allowed = [rows // count for count in range(min(rows, most), 0, -1) if rows % count == 0]
    asked = options.micro_batch_size
    if asked is not None and asked < allowed[0]:
        raise UsageError(
            f"--micro-batch-size {asked} cuts the {rows:,} rows of a step into {rows // asked:,} "
            f"micro-batches; through {num_layers} layers a step may pass {most:,} of them. "
            f"Try --micro-batch-size {allowed[0]}, or "
            f"--tokens-per-step {most * asked * options.max_seq_length}."
        )
    if asked is not None:
        return (asked,)
    usual = max(allowed[0], _MICRO_BATCH_TOKENS // options.max_seq_length)
    if num_threads is not None:
        usual = _balanced(allowed, usual, options.max_seq_length, model, num_threads)
    counts = tuple(count for count in allowed if count <= usual)
    return counts if options.objective == "memory" else counts[::-1]


def _balanced(
    allowed: list[int], usual: int, seq_length: int, model: ModelSpec, num_threads: int
) -> int:
    """Return the least number of rows, from the usual one on, whose heads keep all threads busy, or
    the one that keeps them the most busy.
    """

    def busy(count: int) -> float:
        parts = count * model.attention_heads
        return parts / (num_threads * -(-parts // num_threads)) if parts else 1.0

    enough = max(count for count in allowed if count <= usual)
    most = max(enough, _MOST_BALANCED_TOKENS // seq_length)
    counts = [count for count in allowed if enough <= count <= most]
    return next((n for n in counts if busy(n) >= 1 - _MOST_IDLE), max(counts, key=busy))
