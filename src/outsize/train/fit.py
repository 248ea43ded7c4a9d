"""What the planner is offered: the shapes of a step that the options allow, with what they cost."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from outsize.plan.choose import Candidate, Choice
from outsize.plan.layout import Layout
from outsize.plan.schedule import train_step
from outsize.plan.search import plan_evaluation
from outsize.spec.machine import Lanes, MachineProfile
from outsize.spec.model import ModelSpec
from outsize.store.store import layout_bytes
from outsize.train.options import TrainOptions
from outsize.train.profiled import Profile
from outsize.train.state_file import all_extents, journal_and_logs_bytes, plan_lists
from outsize.train.workload import make_workload

LEAST_SLACK_BYTES = 20 * 2**20
_SLACK_FRACTION = 0.4

_LIBRARIES_DIFFER_BYTES = 4 * 2**20
_ESTIMATES_DIFFER_BYTES = 8 * 2**20
_ESTIMATES_DIFFER_FRACTION = 0.15

_PLAN_BYTES_PER_ACTION = 6 * 2**10
_LEAST_PLAN_BYTES = 2 * 2**20
"""Python objects of the plan and of the search for it; measured on 135 M to 8 B parameters, where
they take 4 to 7 MiB.
"""

_LEAST_SPAN_ELEMENTS = 2**20
_MOST_SPANS = 3000


def slack_bytes(layout: Layout, profile: Profile) -> int:
    """Return the room for what is not profiled.

    Python objects of the plan, queues, and growth of the heap by fragmentation: temporaries of
    different layers, which are profiled one after the other, leave gaps between each other in a
    real step.
    """
    gaps_bytes = LEAST_SLACK_BYTES + int(_SLACK_FRACTION * profile.temporaries_bytes)
    return gaps_bytes + _LEAST_PLAN_BYTES + _PLAN_BYTES_PER_ACTION * len(train_step(layout))


def measurements_differ_bytes(profile: Profile) -> int:
    """Return by how much what a run needs may differ from what a profile says: a budget that is
    named as enough has this much more.

    A run takes the least temporaries of all measurements, its own among them, so after one it can
    only differ by what the libraries weigh.
    """
    if profile.measured_at is not None:
        return _LIBRARIES_DIFFER_BYTES
    return _ESTIMATES_DIFFER_BYTES + int(_ESTIMATES_DIFFER_FRACTION * profile.temporaries_bytes)


def span_elements(model: ModelSpec) -> int:
    """Return elements of one span of optimizer state: 1 Mi, which is 12 MiB with AdamW, or a power
    of four times that where a model would have more than 3000 of them. Part of the state file's
    format.
    """
    elements = _LEAST_SPAN_ELEMENTS
    while model.num_trainable > _MOST_SPANS * elements:
        elements *= 4
    return elements


def make_layouts(
    options: TrainOptions,
    model: ModelSpec,
    *,
    num_threads: int | None = None,
    chosen_span: int | None = None,
) -> Iterator[Layout]:
    """Yield the regions of a step with each micro-batch that the options allow, the preferred one
    first; products are recomputed, unless the options say otherwise.

    Args:
        options: of the run.
        model: the model.
        num_threads: compute threads, where the preferred micro-batch depends on them.
        chosen_span: elements of a span that a state file has already.

    Raises:
        UsageError: the options contradict the model.
    """
    for workload in make_workload(options, model, num_threads):
        layout = Layout(
            model=model, workload=workload, span_elements=chosen_span or span_elements(model)
        )
        keeping = 0 if options.activations in ("auto", "recompute") else layout.num_blocks
        yield replace(
            layout,
            keeping_blocks=keeping,
            pins_products=options.activations == "keep",
            state_copies=options.state_copies,
        )


def candidate(layout: Layout, profile: Profile, options: TrainOptions) -> Candidate:
    """Return what the planner may make of a layout that was profiled."""
    # Keeping is not always timed; it never takes longer than computing again.
    as_recomputed = {
        (name, True): cost for (name, keeps), cost in profile.costs.items() if not keeps
    }
    return Candidate(
        layout=layout,
        costs=as_recomputed | profile.costs,
        fixed_bytes=profile.fixed_bytes + slack_bytes(layout, profile),
        chooses_keeping=options.activations == "auto" and profile.keeps_products,
    )


def rates(machine: MachineProfile, profile: Profile) -> Lanes:
    """Return the rates that a step runs at: the machine's, with the update rate of its layers."""
    return replace(machine.lanes, update_bytes_per_s=profile.memory_bytes_per_s)


def fits_on_disk(disk_bytes: int, *, evaluates: bool = False) -> Callable[[Choice], bool]:
    """Return a test of whether a plan's state file, journal and logs are at most `disk_bytes`.

    Args:
        disk_bytes: room for them.
        evaluates: whether the run evaluates, which may take other regions to disk than its steps.
    """

    def fits(choice: Choice) -> bool:
        layout, plan = choice.candidate.layout, choice.planned.plan
        evaluation = plan_evaluation(layout, plan.arena_bytes) if evaluates else ()
        extents = all_extents(layout, (*plan_lists(plan), evaluation))
        return layout_bytes(extents) + journal_and_logs_bytes(layout) <= disk_bytes

    return fits
