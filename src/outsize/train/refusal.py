"""Refuse a host budget before and after the layers are profiled; `remedies.py` makes the error."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from outsize.errors import BudgetError, Contributor
from outsize.models.layered import Batch, LayeredModel
from outsize.plan.choose import Candidate
from outsize.plan.layout import Layout
from outsize.store.budget import resident_bytes
from outsize.store.heap import trim_heap
from outsize.train.fit import LEAST_SLACK_BYTES, candidate, make_layouts
from outsize.train.kernels import TrainKernels
from outsize.train.measurable import (
    generous_temporaries_bytes,
    largest_action_bytes,
    least_temporaries_bytes,
)
from outsize.train.optimizer import make_optimizer
from outsize.train.options import TrainOptions
from outsize.train.profiled import Profile
from outsize.train.remedies import largest_roles, memory_remedy, no_plan, subject

Know = Callable[[Layout, TrainKernels, Sequence[Batch]], Profile]
"""Tells what a step's layers take on micro-batches."""


def hopeless(
    layout: Layout, options: TrainOptions, budget_bytes: int
) -> Callable[[], BudgetError] | None:
    """Return what refuses, before anything large is touched, a layout that could not fit with the
    least temporaries; None for one that could.
    """
    least_bytes = resident_bytes() + largest_action_bytes(layout) + LEAST_SLACK_BYTES
    least_bytes += least_temporaries_bytes(layout)
    if least_bytes <= budget_bytes:
        return None
    return partial(_hopeless, layout, options, budget_bytes)


def _hopeless(layout: Layout, options: TrainOptions, budget_bytes: int) -> BudgetError:
    temporaries_bytes = generous_temporaries_bytes(layout)
    estimate_bytes = resident_bytes() + largest_action_bytes(layout) * 5 // 4 + LEAST_SLACK_BYTES
    estimate_bytes += temporaries_bytes
    return BudgetError(
        subject(options),
        needed_bytes=estimate_bytes,
        budget_bytes=budget_bytes,
        tier="host",
        contributors=(
            Contributor(role="interpreter and libraries", size_bytes=resident_bytes()),
            *largest_roles(layout),
            Contributor(role="temporaries", size_bytes=temporaries_bytes),
        ),
        remedies=(memory_remedy(estimate_bytes),),
    )


def refusal(
    model: LayeredModel,
    options: TrainOptions,
    batch: Batch,
    know: Know,
    budget_bytes: int,
    floor_bytes: int,
    one: Candidate,
    profile: Profile,
) -> BudgetError:
    """Return the error for a budget that no plan of candidate `one` fits, or that was passed before
    there could be one; every other request is planned with what its layers take before it is named.
    """

    def shape_of(asked: TrainOptions) -> Candidate | None:
        *_, layout = make_layouts(asked, model.spec)
        trim_heap()
        if resident_bytes() + largest_action_bytes(layout) + LEAST_SLACK_BYTES > budget_bytes:
            return None
        part = _cut(batch, layout.workload.micro_batch_rows, asked.max_seq_length)
        kernels = TrainKernels(model, layout, make_optimizer(asked))
        return candidate(layout, know(layout, kernels, [part]), asked)

    return no_plan(options, [(one, profile)], budget_bytes, shape_of, floor_bytes)


def _cut(batch: Batch, num_rows: int, length: int) -> Batch:
    """Return the tokens of a batch as shorter rows, repeated as often as it takes."""

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        needed = num_rows * length
        flat = tensor.flatten()
        return flat.repeat(-(-needed // flat.numel()))[:needed].view(num_rows, length)

    return Batch(
        input_ids=cut(batch.input_ids),
        position_ids=cut(batch.position_ids),
        labels=cut(batch.labels),
    )
