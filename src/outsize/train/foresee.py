"""Plan a run that nothing was prepared for: from headers, a machine's profile and the options.

Answers in a second or two: no library is imported, no weight is loaded, no data is tokenised. A run
plans again with its real layers and rows (`planning.py`); where they were measured before on this
machine, both say the same.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from outsize.errors import UsageError
from outsize.formats.model_spec import KnownModel, know_model
from outsize.machines.catalogue import find_machine
from outsize.paths import is_folder
from outsize.plan.choose import Choice
from outsize.plan.outlook import NUM_POINTS, gains
from outsize.plan.search import plan_evaluation
from outsize.plan.whole_run import pieces_of_plan
from outsize.probe.known import known_machine
from outsize.quantities import format_bytes
from outsize.results import TierBytes
from outsize.runtime.events import OnEvent, Planned, phase
from outsize.spec.machine import Lanes, MachineProfile
from outsize.train.adapter import settled
from outsize.train.budgets import (
    LEAST_HOST_BYTES,
    disk_refusal,
    free_disk_bytes,
    host_budget_bytes,
)
from outsize.train.describe import Outline, describe, disk_roles
from outsize.train.explain import plan_rows
from outsize.train.fit import (
    measurements_differ_bytes,
)
from outsize.train.foresee_data import ExpectedRun, expected_run
from outsize.train.foresee_device import foresee_device
from outsize.train.methods import best_method, possible, prices, with_method
from outsize.train.options import PlanOptions
from outsize.train.plan_result import FrontierPoint, MethodPrice, PlanResult
from outsize.train.planner import Planner, Shape
from outsize.train.run_folder import merged_options, span_of_run
from outsize.train.state_file import plan_lists
from outsize.train.totals import evaluation_passes


def foresee(options: PlanOptions, on_event: OnEvent) -> PlanResult:
    """Plan the run and say what it would take and do.

    Raises:
        OutsizeError: the run would be refused for the same reason; a budget with remedies that were
            planned.

    Cost: no weights and no libraries; reads headers, and measures the machine when it was never
    measured before.
    """
    options, chosen_span = _resumed(settled(options))
    if options.model is None:
        raise UsageError("A plan needs a MODEL; `outsize plan train --help` shows examples.")
    with phase("headers", on_event):
        known = know_model(options.model)
        expected = expected_run(options)
        other, steps = expected.other_bytes, expected.steps
    machine = _machine(options, on_event)
    budget = _budget(options, machine)
    options, found = _with_method(options, known, machine, budget, other, on_event)
    known = with_method(known, options)
    if machine.accelerator is not None:
        _refuse_frontier(options, machine)
        with phase("plan", on_event):
            result = foresee_device(options, known, machine, budget, other, steps)
        on_event(Planned(rows=plan_rows(result)))
        return result
    with phase("plan", on_event):
        planner = Planner(options, known, machine, chosen_span)
        shape, choice = planner.choose(budget, other)
        # For the objective `memory`, with room for what another measurement may differ by.
        named_bytes = choice.budget_bytes + measurements_differ_bytes(shape.profile)
        named_bytes = max(LEAST_HOST_BYTES, named_bytes)
        budget = replace(budget, host=min(budget.host, named_bytes))
        lanes = planner.lanes(shape)
        outline = _outline(options, machine, shape, lanes, choice, budget, expected)
        bought = gains(choice.candidate, budget.host, lanes, options.objective)
    points: tuple[FrontierPoint, ...] = ()
    if options.frontier or options.chart is not None:
        with phase("frontier", on_event, NUM_POINTS, "plans"):
            points = planner.frontier(budget.disk - sum(other.values()), on_event)
    result = replace(describe(outline, bought, points), methods=found)
    on_event(Planned(rows=plan_rows(result)))
    return result


def choose_method(options: PlanOptions, on_event: OnEvent) -> tuple[MethodPrice, ...]:
    """Return what each method would take of a run that leaves the choice to the planner.

    Raises:
        OutsizeError: as `foresee`, but for budgets that are too small.
    """
    assert options.model is not None
    known, expected = know_model(options.model), expected_run(options)
    machine = _machine(options, on_event)
    return prices(options, known, machine, _budget(options, machine), expected.other_bytes)


def _with_method(
    options: PlanOptions,
    known: KnownModel,
    machine: MachineProfile,
    budget: TierBytes,
    other: Mapping[str, int],
    on_event: OnEvent,
) -> tuple[PlanOptions, tuple[MethodPrice, ...]]:
    """Return the options with a method, and where it had to be chosen, what each would take."""
    if options.method != "auto":
        return options, ()
    if machine.accelerator is not None:
        first, *_ = possible(options, has_weights=known.files.kind != "config")
        return replace(options, method=first), ()
    with phase("methods", on_event):
        found = prices(options, known, machine, budget, other)
    return replace(options, method=best_method(found)), found


def _resumed(options: PlanOptions) -> tuple[PlanOptions, int | None]:
    """Return the options of a run that goes on, and the span of its state; others as they are."""
    if options.resume is None:
        return options, None
    folder = Path(options.resume)
    merged = merged_options(folder, options)
    return replace(merged, model=str(folder / "model")), span_of_run(folder)


def _refuse_frontier(options: PlanOptions, machine: MachineProfile) -> None:
    if options.frontier or options.chart is not None:
        raise UsageError(
            f"--frontier and --chart do not know machines with an accelerator such as "
            f"{machine.name} yet; leave them out, or name a machine without one."
        )


def _machine(options: PlanOptions, on_event: OnEvent) -> MachineProfile:
    if options.machine is None:
        found = known_machine(_place(options), on_event, threads=options.threads)
        machine = replace(found, accelerator=None)  # a run does not use one
    else:
        machine = find_machine(options.machine)
        if options.threads is not None:
            machine = replace(machine, host=machine.host.on_cores(options.threads))
    if options.endurance_bytes is None:
        return machine
    return replace(machine, disk=replace(machine.disk, endurance_bytes=options.endurance_bytes))


def _place(options: PlanOptions) -> Path:
    """Return the folder that exists and whose disk the run would lie on."""
    output = Path(options.resume or options.output or "runs").resolve()
    return next(path for path in (output, *output.parents) if is_folder(path))


def _budget(options: PlanOptions, machine: MachineProfile) -> TierBytes:
    if options.machine is None:
        host_bytes = options.memory_bytes or host_budget_bytes(None)
        free_bytes = _free_disk_bytes(options)
    else:
        _refuse_more_memory(options, machine)
        host_bytes = options.memory_bytes or machine.host.memory_bytes
        free_bytes = machine.disk.free_bytes
    disk_bytes = free_bytes if options.disk_bytes is None else options.disk_bytes
    return TierBytes(host=host_bytes, disk=min(disk_bytes, free_bytes))


def _refuse_more_memory(options: PlanOptions, machine: MachineProfile) -> None:
    has_bytes = machine.host.memory_bytes
    if options.memory_bytes is not None and options.memory_bytes > has_bytes:
        raise UsageError(
            f"--memory {format_bytes(options.memory_bytes)} is more than the "
            f"{format_bytes(has_bytes)} that a process on {machine.name} may use; ask for less, or "
            "leave it out to plan for all of that."
        )


def _free_disk_bytes(options: PlanOptions) -> int:
    if options.resume is not None:
        return free_disk_bytes(Path(options.resume))
    return shutil.disk_usage(_place(options)).free  # what lies around the new folder is not its own


def _outline(
    options: PlanOptions,
    machine: MachineProfile,
    shape: Shape,
    lanes: Lanes,
    choice: Choice,
    budget: TierBytes,
    expected: ExpectedRun,
) -> Outline:
    layout, planned = choice.candidate.layout, choice.planned
    evaluation = plan_evaluation(layout, planned.plan.arena_bytes) if options.evaluates else None
    lists = (*plan_lists(planned.plan), evaluation or ())
    disk_bytes = disk_roles(layout, lists, expected.other_bytes)
    if sum(disk_bytes.values()) > budget.disk:
        subject, free_bytes = f"Training {options.model}", machine.disk.free_bytes
        elsewhere = None if options.machine is None else machine.name
        resumed = options.resume is not None
        raise disk_refusal(subject, disk_bytes, budget.disk, free_bytes, elsewhere, resumed)
    return Outline(
        options=options,
        machine=machine,
        profile=shape.profile,
        choice=choice,
        budget_bytes=budget,
        predicted_host_bytes=choice.host_bytes,
        disk_bytes=disk_bytes,
        steps=expected.steps,
        pieces=pieces_of_plan(
            planned,
            layout,
            lanes,
            choice.candidate.costs,
            evaluation,
            evaluation_passes(expected.steps, layout.workload),
        ),
    )
