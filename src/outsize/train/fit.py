"""Fit a step into a host budget: what is fixed, what is kept free, and what the plan may have."""

from collections.abc import Sequence
from dataclasses import replace

from outsize.models.layered import LayeredModel
from outsize.ops.adamw import AdamW
from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.plan.search import CLOSE_FRACTION, PlannedStep, plan_train_step
from outsize.spec.machine import MachineProfile
from outsize.spec.tensor import PAGE_BYTES
from outsize.store.store import layout_bytes
from outsize.train.kernels import TrainKernels
from outsize.train.options import TrainOptions
from outsize.train.profile import Profile
from outsize.train.state_file import all_extents, plan_lists
from outsize.train.workload import make_workload

SPAN_ELEMENTS = 2**20
"""Elements of one span of optimizer state: 12 MiB. Part of the state file's format."""

LEAST_SLACK_BYTES = 20 * 2**20
_SLACK_FRACTION = 0.2


def slack_bytes(profile: Profile) -> int:
    """Return the room for what is not profiled.

    Python objects, queues, and growth of the heap by fragmentation: temporaries of different
    layers, which are profiled one after the other, leave gaps between each other in a real step.
    """
    temporaries_bytes = profile.fixed_bytes - profile.baseline_bytes
    return LEAST_SLACK_BYTES + int(_SLACK_FRACTION * temporaries_bytes)


def make_layout(model: LayeredModel, options: TrainOptions) -> tuple[Layout, TrainKernels]:
    """Return regions and arithmetic of the step that the options describe.

    Raises:
        UsageError: the options contradict the model.
    """
    workload = make_workload(options, model.spec)
    layout = Layout(model=model.spec, workload=workload, span_elements=SPAN_ELEMENTS)
    optimizer = AdamW(
        beta1=options.adam_beta1,
        beta2=options.adam_beta2,
        epsilon=options.adam_epsilon,
        weight_decay=options.weight_decay,
    )
    return layout, TrainKernels(model, layout, optimizer)


def fit_plans(
    layout: Layout, arena_bytes: int, machine: MachineProfile, profile: Profile
) -> list[tuple[Layout, PlannedStep]]:
    """Return the best plans whose arena is at most `arena_bytes`, each with its layout: first one
    that recomputes products and then, where it was profiled and fits, one that keeps them.

    Raises:
        DoesNotFitError: there is none.
    """
    usable_bytes = arena_bytes // PAGE_BYTES * PAGE_BYTES
    found: list[tuple[Layout, PlannedStep]] = []
    for keeps_products, costs in profile.costs.items():
        variant = replace(layout, keeps_products=keeps_products)
        try:
            found.append((variant, plan_train_step(variant, usable_bytes, machine, costs)))
        except DoesNotFitError:
            if not keeps_products:
                raise
    return found


def choose_plan(
    found: Sequence[tuple[Layout, PlannedStep]], disk_bytes: int
) -> tuple[Layout, PlannedStep]:
    """Return the plan that keeps products if it is not slower and its state file is at most
    `disk_bytes`, and else the one that recomputes them.

    Keeping saves arithmetic, so only the disk can make it slower. On a machine that is busy with
    other things the two would else be chosen between by chance, and a run would not do what its dry
    run said.
    """

    def file_bytes(one: tuple[Layout, PlannedStep]) -> int:
        layout, planned = one
        return layout_bytes(all_extents(layout, plan_lists(planned.plan)))

    recomputing, *keeping = found
    slowest_s = (1 + CLOSE_FRACTION) * recomputing[1].prediction.step_s
    for one in keeping:
        if one[1].prediction.step_s <= slowest_s and file_bytes(one) <= disk_bytes:
            return one
    return recomputing
