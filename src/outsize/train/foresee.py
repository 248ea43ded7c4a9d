"""Plan a run that nothing was prepared for: from headers, a machine's profile and the options.

Answers in a second or two: no library is imported, no weight is loaded, no data is tokenised. A run
plans again with its real layers and rows (`planning.py`); where they were measured before on this
machine, both say the same.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from outsize.errors import UsageError
from outsize.formats.model_spec import KnownModel, know_model
from outsize.machines.catalogue import find_machine
from outsize.plan.choose import Candidate, Choice, choose
from outsize.plan.layout import Layout
from outsize.plan.outlook import NUM_POINTS, frontier, gains
from outsize.plan.residency import DoesNotFitError
from outsize.probe.known import known_machine
from outsize.results import TierBytes
from outsize.runtime.events import OnEvent, PhaseAdvanced, Planned, phase
from outsize.spec.machine import Lanes, MachineProfile
from outsize.spec.tensor import DTYPE_BYTES
from outsize.train.budgets import disk_refusal, free_disk_bytes, host_budget_bytes
from outsize.train.data.estimate import TokenEstimate, estimate_tokens
from outsize.train.describe import (
    Outline,
    Steps,
    describe,
    disk_roles,
    frontier_point,
    steps_of_tokens,
)
from outsize.train.explain import plan_rows
from outsize.train.fit import (
    candidate,
    fits_on_disk,
    make_layouts,
    measurements_differ_bytes,
    rates,
)
from outsize.train.foresee_device import foresee_device
from outsize.train.kept_profiles import kept_profile
from outsize.train.options import PlanOptions, TrainOptions
from outsize.train.plan_result import FrontierPoint, PlanResult
from outsize.train.profiled import Profile, expected_profile
from outsize.train.remedies import no_plan
from outsize.train.run_folder import merged_options, span_of_run, steps_of_run
from outsize.train.state_file import plan_lists

_TOKENIZER_BYTES = 4 * 2**20
_ROW_FILES = 3
"""Token ids, labels and positions, four bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One shape that the step can have: what the planner is offered, and where it comes from."""

    candidate: Candidate
    profile: Profile


def foresee(options: PlanOptions, on_event: OnEvent) -> PlanResult:
    """Plan the run and say what it would take and do.

    Raises:
        OutsizeError: the run would be refused for the same reason; a budget with remedies that were
            planned.

    Cost: no weights and no libraries; reads headers, and measures the machine when it was never
    measured before.
    """
    options, chosen_span = _resumed(options)
    if options.model is None:
        raise UsageError("A plan needs a MODEL; `outsize plan train --help` shows examples.")
    with phase("headers", on_event):
        known = know_model(options.model)
        data = _estimate(options)
    machine = _machine(options, on_event)
    budget = _budget(options, machine)
    if machine.accelerator is not None:
        _refuse_frontier(options, machine)
        with phase("plan", on_event):
            other, steps = _other_bytes(options, data), _steps(options, data)
            result = foresee_device(options, known, machine, budget, other, steps)
        on_event(Planned(rows=plan_rows(result)))
        return result
    with phase("plan", on_event):
        planner = Planner(options, known, machine, chosen_span)
        shape, choice = planner.choose(budget, _other_bytes(options, data))
        # For the objective `memory`, with room for what another measurement may differ by.
        named_bytes = choice.budget_bytes + measurements_differ_bytes(shape.profile)
        budget = replace(budget, host=min(budget.host, named_bytes))
        outline = _outline(options, machine, shape, choice, budget, data)
        lanes = planner.lanes(shape)
        bought = gains(choice.candidate, budget.host, lanes, options.objective)
    points: tuple[FrontierPoint, ...] = ()
    if options.frontier or options.chart is not None:
        with phase("frontier", on_event, NUM_POINTS, "plans"):
            points = planner.frontier(shape, on_event)
    result = describe(outline, bought, points)
    on_event(Planned(rows=plan_rows(result)))
    return result


class Planner:
    """Plans one model's step on one machine.

    Args:
        options: of the run.
        known: the model.
        machine: the machine.
        chosen_span: elements of a span that a run has already; None for a new one.
    """

    def __init__(
        self,
        options: TrainOptions,
        known: KnownModel,
        machine: MachineProfile,
        chosen_span: int | None,
    ) -> None:
        self._options = options
        self._known = known
        self._machine = machine
        self._layouts = tuple(make_layouts(options, known.spec, chosen_span))

    def choose(self, budget: TierBytes, other: Mapping[str, int]) -> tuple[Shape, Choice]:
        """Return the shape with the preferred micro-batch that fits, and its plan.

        Raises:
            BudgetError: none fits.
        """
        shapes = [self._shape(layout, self._options) for layout in self._layouts]
        fits = fits_on_disk(budget.disk - sum(other.values()))
        for shape in shapes:
            offered, lanes = (shape.candidate,), self.lanes(shape)
            try:
                return shape, choose(offered, budget.host, lanes, self._options.objective, fits)
            except DoesNotFitError:
                continue
        raise no_plan(
            self._options,
            [(one.candidate, one.profile) for one in shapes],
            budget.host,
            self.shape_of,
        )

    def shape_of(self, asked: TrainOptions) -> Candidate:
        """Return the smallest shape of another request."""
        *_, layout = make_layouts(asked, self._known.spec)
        return self._shape(layout, asked).candidate

    def lanes(self, shape: Shape) -> Lanes:
        """Return the rates that the shape's step runs at."""
        return rates(self._machine, shape.profile)

    def frontier(self, shape: Shape, on_event: OnEvent) -> tuple[FrontierPoint, ...]:
        """Return the best plans at growing budgets."""
        found = frontier(
            (shape.candidate,),
            self.lanes(shape),
            self._options.objective,
            self._machine.host.memory_bytes,
            lambda done: on_event(PhaseAdvanced(phase="frontier", done=done)),
        )
        return tuple(frontier_point(budget_bytes, choice) for budget_bytes, choice in found)

    def _shape(self, layout: Layout, asked: TrainOptions) -> Shape:
        profile = None
        if self._machine.measured_at is not None:
            profile = kept_profile(layout, self._machine.fingerprint, asked.threads)
        if profile is None:
            profile = expected_profile(
                layout, self._known.blocks, self._machine, self._machine.host
            )
        return Shape(candidate=candidate(layout, profile, asked), profile=profile)


def _resumed(options: PlanOptions) -> tuple[PlanOptions, int | None]:
    """Return the options of a run that goes on, and the span of its state; others as they are."""
    if options.resume is None:
        return options, None
    folder = Path(options.resume)
    merged = merged_options(folder, options)
    return replace(merged, model=str(folder / "model")), span_of_run(folder)


def _estimate(options: PlanOptions) -> TokenEstimate | None:
    """Return about how many tokens are trained on; None without data, or where a run goes on with
    the rows that it has.
    """
    if options.data is None or options.resume is not None:
        return None
    found = estimate_tokens(options.data, text_field=options.text_field)
    if found.tokens is None:
        return found
    return replace(found, tokens=round(found.tokens * (1 - options.evaluation_fraction)))


def _refuse_frontier(options: PlanOptions, machine: MachineProfile) -> None:
    if options.frontier or options.chart is not None:
        raise UsageError(
            f"--frontier and --chart do not know machines with an accelerator such as "
            f"{machine.name} yet; leave them out, or name a machine without one."
        )


def _machine(options: PlanOptions, on_event: OnEvent) -> MachineProfile:
    machine = (
        known_machine(_place(options), on_event)
        if options.machine is None
        else find_machine(options.machine)
    )
    if options.endurance_bytes is None:
        return machine
    return replace(machine, disk=replace(machine.disk, endurance_bytes=options.endurance_bytes))


def _place(options: PlanOptions) -> Path:
    """Return the folder that exists and whose disk the run would lie on."""
    output = Path(options.resume or options.output or "runs").resolve()
    return next(path for path in (output, *output.parents) if path.is_dir())


def _budget(options: PlanOptions, machine: MachineProfile) -> TierBytes:
    if options.machine is None:
        host_bytes = options.memory_bytes or host_budget_bytes(None)
        free_bytes = _free_disk_bytes(options)
    else:
        host_bytes = options.memory_bytes or machine.host.memory_bytes
        free_bytes = machine.disk.free_bytes
    disk_bytes = free_bytes if options.disk_bytes is None else options.disk_bytes
    return TierBytes(host=host_bytes, disk=min(disk_bytes, free_bytes))


def _free_disk_bytes(options: PlanOptions) -> int:
    if options.resume is not None:
        return free_disk_bytes(Path(options.resume))
    return shutil.disk_usage(_place(options)).free  # what lies around the new folder is not its own


def _other_bytes(options: PlanOptions, data: TokenEstimate | None) -> dict[str, int]:
    tokens = 0 if data is None or data.tokens is None else data.tokens
    return {"tokenizer and data": _TOKENIZER_BYTES + _ROW_FILES * DTYPE_BYTES["float32"] * tokens}


def _outline(
    options: PlanOptions,
    machine: MachineProfile,
    shape: Shape,
    choice: Choice,
    budget: TierBytes,
    data: TokenEstimate | None,
) -> Outline:
    layout = choice.candidate.layout
    lists = plan_lists(choice.planned.plan)
    disk_bytes = disk_roles(layout, lists, _other_bytes(options, data))
    if sum(disk_bytes.values()) > budget.disk:
        subject = f"Training {options.model}"
        raise disk_refusal(subject, disk_bytes, budget.disk, machine.disk.free_bytes)
    return Outline(
        options=options,
        machine=machine,
        profile=shape.profile,
        choice=choice,
        budget_bytes=budget,
        predicted_host_bytes=choice.host_bytes,
        disk_bytes=disk_bytes,
        steps=_steps(options, data),
    )


def _steps(options: PlanOptions, data: TokenEstimate | None) -> Steps | None:
    if options.steps is not None:
        return Steps(count=options.steps, known_from="asked for")
    if options.resume is not None:
        return Steps(count=steps_of_run(Path(options.resume)), known_from="as the run began")
    if data is None or data.tokens is None:
        return None
    return steps_of_tokens(
        options, data.tokens, options.tokens_per_step, f"about {data.tokens:,} tokens of data"
    )
