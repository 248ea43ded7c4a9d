"""Which combinations are compared, and the training options of each.

No torch in here.
"""

from dataclasses import dataclass

from outsize.options import ComputeType, VerifyOptions
from outsize.train.options import TrainOptions

_ACCUMULATION = 4
_MAX_GRAD_NORM = 0.1
"""Small, so that every step of every model is clipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One comparison.

    Attributes:
        dtype: compute dtype.
        clip: whether the gradient is clipped by its global norm.
        accumulation: micro-batches of a step.
    """

    dtype: ComputeType
    clip: bool
    accumulation: int


def most_accumulation(options: VerifyOptions) -> int:
    """Return the most micro-batches, up to four, that the rows of a step can be dealt to."""
    rows = options.tokens_per_step // options.max_seq_length
    return max(count for count in range(1, _ACCUMULATION + 1) if rows % count == 0)


def make_cases(options: VerifyOptions) -> tuple[Case, ...]:
    """Return every case to compare, the quick one first."""
    most = most_accumulation(options)
    cases = tuple(
        Case(dtype=dtype, clip=clip, accumulation=accumulation)
        for dtype in options.dtypes
        for clip in (True, False)
        for accumulation in sorted({most, 1}, reverse=True)
    )
    return cases[:1] if options.quick else cases


def training_options(options: VerifyOptions, case: Case) -> TrainOptions:
    """Return what both sides of a case are told: a falling learning rate and weight decay, so that
    neither can be left out unseen.
    """
    rows = options.tokens_per_step // options.max_seq_length
    return TrainOptions(
        model=options.model,
        data="token rows made for this comparison",
        steps=options.steps,
        tokens_per_step=options.tokens_per_step,
        max_seq_length=options.max_seq_length,
        micro_batch_size=rows // case.accumulation,
        dtype=case.dtype,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        weight_decay=0.1,
        max_grad_norm=_MAX_GRAD_NORM if case.clip else 0.0,
        seed=options.seed,
        threads=options.threads,
        packed_attention=options.packed_attention,
    )
