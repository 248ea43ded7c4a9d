"""Choose the plan of a step: the fastest by simulation among all that fit the arena.

What is searched is how much of the arena residency may use and how much transfers in flight may
use. The lists are made and simulated for each split; of those that are about as fast as the
fastest, the one that moves the fewest bytes is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outsize.plan.actions import Action, Work
from outsize.plan.build import build_pass, build_plan
from outsize.plan.layout import Layout
from outsize.plan.memory import Placement, place
from outsize.plan.prefetch import overlap_transfers
from outsize.plan.residency import DoesNotFitError, largest_slot_bytes, steady_stays
from outsize.plan.schedule import evaluate_step, train_step, uses
from outsize.plan.simulate import Prediction, simulate
from outsize.plan.step_plan import StepPlan
from outsize.plan.verify import verify_pass, verify_plan
from outsize.spec.machine import LayerCost, MachineProfile

_RESERVES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.35, 0.5)
"""Fractions of the arena that residency leaves to transfers in flight."""

CLOSE_FRACTION = 0.005
"""Predicted times that differ by less than this fraction count as equal: the prediction is no
better, and bytes that do not move cannot be late.
"""

_SHRINK_ROUNDS = 10
_WINDOW_BYTES = 256 * 2**20
"""The most that reads run ahead or writes run behind, where there is room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A verified plan and what it is predicted to take."""

    plan: StepPlan
    prediction: Prediction


def plan_train_step(
    layout: Layout,
    arena_bytes: int,
    machine: MachineProfile,
    costs: Mapping[str, LayerCost],
) -> PlannedStep:
    """Return the verified plan that is about the fastest whose arena is at most `arena_bytes`.

    Raises:
        DoesNotFitError: no plan fits; `needed_bytes` is the least that a try would have needed.
    """
    work = train_step(layout)
    found: list[PlannedStep] = []
    failures: list[int] = []
    for reserve in _RESERVES:
        try:
            placement = _fit(layout, work, arena_bytes, reserve)
        except DoesNotFitError as error:
            failures.append(error.needed_bytes)
            continue
        plan = build_plan(work, placement)
        prediction = simulate(plan.steady, layout, machine, costs, repeats=True)
        found.append(PlannedStep(plan=plan, prediction=prediction))
    if not found:
        raise DoesNotFitError(min(failures))
    best = _best(found)
    verify_plan(best.plan, layout)
    return best


def plan_evaluation(layout: Layout, arena_bytes: int) -> tuple[Action, ...]:
    """Return the verified list of one evaluation of a step's rows, which starts and ends with an
    empty arena.

    Raises:
        DoesNotFitError: it does not fit `arena_bytes`.
    """
    work = evaluate_step(layout)
    try:
        placement = _fit(layout, work, arena_bytes, 0.1)
    except DoesNotFitError:
        placement = _fit(layout, work, arena_bytes, 0.0)
    size, actions = build_pass(work, placement)
    verify_pass(actions, layout, size, work)
    return actions


def _best(found: Sequence[PlannedStep]) -> PlannedStep:
    fastest_s = min(step.prediction.step_s for step in found)
    close = [s for s in found if s.prediction.step_s <= (1 + CLOSE_FRACTION) * fastest_s]
    return min(close, key=lambda step: (_moved_bytes(step), step.prediction.step_s))


def _moved_bytes(step: PlannedStep) -> int:
    return step.prediction.bytes_read + step.prediction.bytes_written


def _fit(layout: Layout, work: Sequence[Work], arena_bytes: int, reserve: float) -> Placement:
    """Place the steady step in the arena; where gaps make it too large, plan again with less."""
    slots, sizes = [uses(layout, action) for action in work], layout.region_bytes
    least_bytes = largest_slot_bytes(slots, sizes)
    if least_bytes > arena_bytes:
        raise DoesNotFitError(least_bytes)
    room_bytes = arena_bytes
    for _ in range(_SHRINK_ROUNDS):
        stays = steady_stays(slots, sizes, max(least_bytes, int(room_bytes * (1 - reserve))))
        placement = place(overlap_transfers(stays, len(work), room_bytes, _WINDOW_BYTES), len(work))
        overrun_bytes = placement.arena_bytes - arena_bytes
        if overrun_bytes <= 0:
            return placement
        if room_bytes == least_bytes:
            break
        room_bytes = max(least_bytes, room_bytes - overrun_bytes)
    raise DoesNotFitError(placement.arena_bytes)
