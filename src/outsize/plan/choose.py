"""Choose what shapes the step itself: micro-batch, span, and which blocks keep their products.

Each candidate is one such shape with what it costs. All are estimated as if regions could lie in an
arena without gaps; then the best is planned for real, and the next best where gaps make that fail.
Read `search.py` next: it plans one shape.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.plan.schedule import train_step
from outsize.plan.search import (
    CLOSE_FRACTION,
    Objective,
    PlannedStep,
    estimate_train_step,
    plan_train_step,
    rank,
    smallest_arena_bytes,
)
from outsize.plan.simulate import Costs, Prediction, work_seconds
from outsize.spec.machine import Lanes
from outsize.spec.tensor import PAGE_BYTES

_GAP_FRACTION = 0.06
"""Of the arena: gaps between regions that an estimate allows for; most plans have 0 to 12 %."""

_REFINEMENTS = 2
"""How often the number of blocks that keep their products is halved in."""

_MEMORY_STEPS = 8
"""Sizes of memory that are tried where the smallest plan is not accepted."""

_EXPOSED_FRACTION = 0.005
"""A step that waits for the disk less than this is as fast as its arithmetic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One shape of a step.

    Attributes:
        layout: its regions.
        costs: seconds of its layers.
        fixed_bytes: host bytes that are there with any plan of it: libraries, temporaries, slack.
        chooses_keeping: whether the search may change how many blocks keep their products.
    """

    layout: Layout
    costs: Costs
    fixed_bytes: int
    chooses_keeping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A candidate and its verified plan.

    Attributes:
        candidate: the shape.
        planned: the plan.
        budget_bytes: the host budget that it was planned for.
    """

    candidate: Candidate
    planned: PlannedStep
    budget_bytes: int

    @property
    def host_bytes(self) -> int:
        """Predicted host peak."""
        return self.candidate.fixed_bytes + self.planned.plan.arena_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A candidate and what it is about to take, gaps allowed for but not placed."""

    candidate: Candidate
    prediction: Prediction


def choose(
    candidates: Sequence[Candidate],
    budget_bytes: int,
    machine: Lanes,
    objective: Objective = "time",
    accepts: Callable[[Choice], bool] = lambda choice: True,
) -> Choice:
    """Return the best plan of all candidates whose host peak is at most `budget_bytes`.

    Args:
        candidates: the shapes, the preferred one first among equals.
        budget_bytes: of the whole process.
        machine: rates.
        objective: what is best.
        accepts: tells whether a plan may be chosen, for example for its size on disk. The last one
            that fits is returned even if it is not accepted.

    Raises:
        DoesNotFitError: no plan fits; `needed_bytes` is a host budget, the least that a try would
            have needed.
    """
    if objective == "memory":
        return _smallest(candidates, budget_bytes, machine, accepts)
    found = _by_rank(_estimates(candidates, budget_bytes, machine, objective), objective)
    best: Choice | None = None
    refused: Choice | None = None
    for one in found:
        # An estimate is hopeful, so a plan that is as good as the next estimate is the best.
        if best is not None and _goal(one.prediction, objective) >= _goal(
            best.planned.prediction, objective
        ) * (1 - CLOSE_FRACTION):
            break
        try:
            choice = _plan(one.candidate, budget_bytes, machine, objective)
        except DoesNotFitError:
            continue
        if not accepts(choice):
            refused = refused or choice
        elif best is None or rank(choice.planned.prediction, objective) < rank(
            best.planned.prediction, objective
        ):
            best = choice
    return best or _last_resort(candidates, budget_bytes, machine, objective, accepts, refused)


def _goal(prediction: Prediction, objective: Objective) -> float:
    return rank(prediction, objective)[0]


def _last_resort(
    candidates: Sequence[Candidate],
    budget_bytes: int,
    machine: Lanes,
    objective: Objective,
    accepts: Callable[[Choice], bool],
    refused: Choice | None,
) -> Choice:
    """Plan what does not fit with the usual gaps but may fit without."""
    failures = []
    for candidate in candidates:
        try:
            choice = _plan(_keeping(candidate, 0), budget_bytes, machine, objective)
        except DoesNotFitError as error:
            failures.append(error.needed_bytes)
            continue
        if accepts(choice):
            return choice
        refused = choice
    if refused is None:
        raise DoesNotFitError(min(failures))
    return refused


def estimate(
    candidates: Sequence[Candidate],
    budget_bytes: int,
    machine: Lanes,
    objective: Objective = "time",
) -> Estimate | None:
    """Return about what `choose` would find, in a fraction of its time; None when nothing fits."""
    found = _by_rank(_estimates(candidates, budget_bytes, machine, objective), objective)
    return found[0] if found else None


def smallest_budget_bytes(candidates: Sequence[Candidate]) -> int:
    """Return the smallest host budget that any candidate has a plan for, to 1 MiB."""
    return min(one.fixed_bytes + smallest_arena_bytes(one.layout) for one in candidates)


def _smallest(
    candidates: Sequence[Candidate],
    budget_bytes: int,
    machine: Lanes,
    accepts: Callable[[Choice], bool],
) -> Choice:
    """Plan with the least memory; where that is not accepted, with more of it step by step."""
    needed = [(smallest_budget_bytes((one,)), index) for index, one in enumerate(candidates)]
    least_bytes, index = min(needed)
    if least_bytes > budget_bytes:
        raise DoesNotFitError(least_bytes)
    choice = _plan(candidates[index], least_bytes, machine, "memory")
    for step in range(1, _MEMORY_STEPS + 1):
        if accepts(choice):
            break
        more_bytes = (budget_bytes - least_bytes) * step // _MEMORY_STEPS
        with contextlib.suppress(DoesNotFitError):  # gaps may be larger in a larger arena
            choice = _plan(candidates[index], least_bytes + more_bytes, machine, "memory")
    return choice


def _plan(candidate: Candidate, budget_bytes: int, machine: Lanes, objective: Objective) -> Choice:
    arena_bytes = _arena_bytes(candidate, budget_bytes)
    try:
        planned = plan_train_step(
            candidate.layout, arena_bytes, machine, candidate.costs, objective
        )
    except DoesNotFitError as error:
        raise DoesNotFitError(error.needed_bytes + candidate.fixed_bytes) from error
    return Choice(candidate=candidate, planned=planned, budget_bytes=budget_bytes)


def _arena_bytes(candidate: Candidate, budget_bytes: int) -> int:
    return max(0, budget_bytes - candidate.fixed_bytes) // PAGE_BYTES * PAGE_BYTES


def _estimates(
    candidates: Sequence[Candidate], budget_bytes: int, machine: Lanes, objective: Objective
) -> list[Estimate]:
    """Estimate all candidates but those whose arithmetic alone takes longer than the best so
    far.
    """
    found: list[Estimate] = []

    def estimated(one: Candidate) -> Estimate | None:
        fastest_s = min((e.prediction.step_s for e in found), default=math.inf)
        if objective == "time" and _compute_s(one, machine) > fastest_s:
            return None
        prediction = _estimate(one, budget_bytes, machine)
        if prediction is None:
            return None
        found.append(Estimate(candidate=one, prediction=prediction))
        return found[-1]

    for candidate in candidates:
        if candidate.chooses_keeping:
            _try_keeping(candidate, estimated)
        else:
            estimated(candidate)
    return found


def _try_keeping(candidate: Candidate, estimated: Callable[[Candidate], Estimate | None]) -> None:
    """Estimate a candidate with all blocks keeping their products, with none, and, where all of
    them make the step wait for the disk, with numbers between.
    """
    low, high = 0, candidate.layout.num_blocks
    everything = estimated(_keeping(candidate, high))
    estimated(_keeping(candidate, low))
    for _ in range(_REFINEMENTS):
        middle = (low + high) // 2
        if middle == low or (everything is not None and not _waits(everything.prediction)):
            return
        between = estimated(_keeping(candidate, middle))
        if between is not None and not _waits(between.prediction):
            low = middle
        else:
            high = middle


def _estimate(candidate: Candidate, budget_bytes: int, machine: Lanes) -> Prediction | None:
    """Predict a candidate in the budget; None when it does not fit."""
    arena_bytes = int(_arena_bytes(candidate, budget_bytes) * (1 - _GAP_FRACTION))
    try:
        return estimate_train_step(candidate.layout, arena_bytes, machine, candidate.costs)
    except DoesNotFitError:
        return None


def _keeping(candidate: Candidate, num_blocks: int) -> Candidate:
    if not candidate.chooses_keeping or candidate.layout.keeping_blocks == num_blocks:
        return candidate
    return replace(candidate, layout=replace(candidate.layout, keeping_blocks=num_blocks))


def _waits(prediction: Prediction) -> bool:
    return prediction.exposed_io_s > _EXPOSED_FRACTION * prediction.step_s


def _by_rank(found: Sequence[Estimate], objective: Objective) -> list[Estimate]:
    """Return the estimates, best first; among those that are about as good, the order stays."""
    rest = list(found)
    order = []
    while rest:
        best = min(_goal(one.prediction, objective) for one in rest)
        order.append(
            next(
                one
                for one in rest
                if _goal(one.prediction, objective) <= best * (1 + CLOSE_FRACTION)
            )
        )
        rest.remove(order[-1])
    return order


def _compute_s(candidate: Candidate, machine: Lanes) -> float:
    return sum(
        work_seconds(candidate.layout, action, machine, candidate.costs)
        for action in train_step(candidate.layout)
    )
