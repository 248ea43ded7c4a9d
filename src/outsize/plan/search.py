"""Choose the plan of a step: the best by simulation among all that fit the arena.

What is searched here is how much of the arena residency may use and how much transfers in flight
may use; `choose.py` searches what shapes the step itself. Only the best split gets offsets: where
gaps between regions make it too large, it is planned again with less.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from outsize.plan.actions import Action, Work
from outsize.plan.build import build_pass, build_plan, steady_list
from outsize.plan.layout import Layout
from outsize.plan.level import RESIDENT_ONLY, USUAL_SPLIT, Level, Split
from outsize.plan.residency import DoesNotFitError, Stay
from outsize.plan.schedule import evaluate_step, train_step, uses
from outsize.plan.simulate import Costs, Prediction, simulate
from outsize.plan.step_plan import StepPlan
from outsize.plan.verify import verify_pass, verify_plan
from outsize.spec.machine import Lanes
from outsize.spec.tensor import PAGE_BYTES

Objective = Literal["time", "memory", "writes"]
Key = TypeVar("Key")

CLOSE_FRACTION = 0.005
"""Predicted times that differ by less than this fraction count as equal: the prediction is no
better, and bytes that do not move cannot be late.
"""

_SPLITS = (RESIDENT_ONLY, Split(0.0, True), USUAL_SPLIT, Split(0.3, True))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A verified plan and what it is predicted to take."""

    plan: StepPlan
    prediction: Prediction


def plan_train_step(
    layout: Layout,
    arena_bytes: int,
    machine: Lanes,
    costs: Costs,
    objective: Objective = "time",
) -> PlannedStep:
    """Return the verified plan that is about the best whose arena is at most `arena_bytes`.

    Raises:
        DoesNotFitError: no plan fits; `needed_bytes` is the least that a try would have needed.
    """
    step = _host_level(layout, train_step(layout))
    found = _predictions(step, arena_bytes, machine, costs)
    failures = []
    for split in preferred(found, objective):
        try:
            placement = step.fit(arena_bytes, split)
        except DoesNotFitError as error:
            failures.append(error.needed_bytes)
            continue
        plan = build_plan(step.work, placement)
        prediction = simulate(plan.steady, layout, machine, costs, repeats=True)
        verify_plan(plan, layout)
        return PlannedStep(plan=plan, prediction=prediction)
    raise DoesNotFitError(min(failures, default=step.least_bytes))


def estimate_train_step(
    layout: Layout, arena_bytes: int, machine: Lanes, costs: Costs
) -> Prediction:
    """Return the prediction of the usual split of an arena, as if regions could lie in it without
    gaps.

    Raises:
        DoesNotFitError: one action alone needs more.
    """
    step = _host_level(layout, train_step(layout))
    actions = steady_list(step.work, step.stays(arena_bytes, USUAL_SPLIT))
    return simulate(actions, layout, machine, costs, repeats=True)


def smallest_arena_bytes(layout: Layout, precision_bytes: int = 2**20) -> int:
    """Return the smallest arena that a plan is found for, to `precision_bytes`."""
    step = _host_level(layout, train_step(layout))
    low, high = step.least_bytes, step.least_bytes
    while not _fits(step, high):
        low, high = high, high + max(precision_bytes, high // 4)
    while high - low > precision_bytes:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(step, middle) else (middle, high)
    return -(-high // PAGE_BYTES) * PAGE_BYTES


def whole_arena_bytes(layout: Layout) -> int:
    """Return an arena from which on nothing has to move."""
    step = _host_level(layout, train_step(layout))
    return step.fit(sum(layout.region_bytes.values()), RESIDENT_ONLY).arena_bytes


def plan_evaluation(layout: Layout, arena_bytes: int) -> tuple[Action, ...]:
    """Return the verified list of one evaluation of a step's rows, which starts and ends with an
    empty arena.

    Raises:
        DoesNotFitError: it does not fit `arena_bytes`.
    """
    step = _host_level(layout, evaluate_step(layout))
    try:
        placement = step.fit(arena_bytes, Split(0.1, False))
    except DoesNotFitError:
        placement = step.fit(arena_bytes, RESIDENT_ONLY)
    size, actions = build_pass(step.work, placement)
    verify_pass(actions, layout, size, step.work)
    return actions


def rank(prediction: Prediction, objective: Objective) -> tuple[float, float]:
    """Return what a prediction is compared by; less is better."""
    if objective == "writes":
        return (prediction.bytes_written, prediction.step_s)
    return (prediction.step_s, _moved_bytes(prediction))


def _host_level(layout: Layout, work: Sequence[Work]) -> Level[Work]:
    return Level(layout, work, [uses(layout, action) for action in work])


def _predictions(
    step: Level[Work], arena_bytes: int, machine: Lanes, costs: Costs
) -> dict[Split, Prediction]:
    """Predict every split of the arena that differs from the ones before.

    Raises:
        DoesNotFitError: none is possible.
    """
    failed: list[DoesNotFitError] = []
    found: dict[tuple[Stay, ...], tuple[Split, Prediction]] = {}
    for split in _SPLITS:
        try:
            stays = step.stays(arena_bytes, split)
        except DoesNotFitError as error:
            failed.append(error)
            continue
        if stays not in found:
            actions = steady_list(step.work, stays)
            found[stays] = split, simulate(actions, step.layout, machine, costs, repeats=True)
    if not found:
        raise min(failed, key=lambda error: error.needed_bytes)
    return dict(found.values())


def preferred(found: Mapping[Key, Prediction], objective: Objective) -> Iterator[Key]:
    """Yield what was predicted in the order to try it; of those that are about as fast as the
    fastest comes the one that moves least.
    """
    rest = sorted(found, key=lambda one: rank(found[one], objective))
    while rest:
        best = rest[0]
        if objective == "time":
            slowest_s = (1 + CLOSE_FRACTION) * found[best].step_s
            close = [one for one in rest if found[one].step_s <= slowest_s]
            best = min(close, key=lambda one: (_moved_bytes(found[one]), found[one].step_s))
        yield best
        rest.remove(best)


def _moved_bytes(prediction: Prediction) -> int:
    on_disk = prediction.bytes_read + prediction.bytes_written
    return on_disk + prediction.bytes_to_device + prediction.bytes_from_device


def _fits(step: Level[Work], arena_bytes: int) -> bool:
    try:
        step.fit(arena_bytes, RESIDENT_ONLY)
    except DoesNotFitError:
        return False
    return True
