"""Learning rate of each update, by the formulas of the Hugging Face trainers.

A pure function of the update's number, so a resumed run needs no state for it.
"""

import math

from outsize.train.options import TrainOptions


def num_warmup_steps(options: TrainOptions, num_steps: int) -> int:
    """Return the updates that warm up: `warmup_steps`, or `warmup_ratio` of all, rounded up."""
    if options.warmup_steps is not None:
        return options.warmup_steps
    return math.ceil(options.warmup_ratio * num_steps)


def learning_rate(options: TrainOptions, step: int, num_steps: int) -> float:
    """Return the rate of update `step`, counted from 0, of `num_steps`; the same bits as there."""
    return options.learning_rate * _factor(options, step, num_steps)


def _factor(options: TrainOptions, step: int, num_steps: int) -> float:
    warmup, kind = num_warmup_steps(options, num_steps), options.lr_scheduler_type
    rest = max(1, num_steps - warmup)
    if step < warmup and kind != "constant":
        return step / max(1, warmup)
    match kind:
        case "linear":
            return max(0.0, (num_steps - step) / rest)
        case "cosine":
            return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((step - warmup) / rest))))
        case "constant" | "constant_with_warmup":
            return 1.0
