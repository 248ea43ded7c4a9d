"""An independent check of the lists: they run on an abstract machine that refuses any wrong move.

Prologue, first, steady, commit, steady, flush run in the order of a run; the steady list of three
tiers runs over and over. The arithmetic of each list is compared with the schedule's. Every plan
passes here before a run. Read `abstract_machine.py` next: it says what is wrong.
"""

from collections.abc import Mapping, Sequence

from outsize.plan import layout as names
from outsize.plan.abstract_machine import AbstractMachine, PlanInvalidError
from outsize.plan.actions import Acquire, Action, Commit, Compute, Tier, Update, Work
from outsize.plan.layout import Layout
from outsize.plan.schedule import train_step
from outsize.plan.step_plan import StepPlan

__all__ = ["PlanInvalidError", "verify_pass", "verify_plan", "verify_steady"]

_RUN = ("prologue", "first", "steady", "commit", "steady", "flush", "prologue", "first", "flush")
"""The order in which lists follow each other when they are verified."""

_STEADY_ROUNDS = 3


def verify_plan(plan: StepPlan, layout: Layout) -> None:
    """Compare the arithmetic of the lists of a train step with the schedule, then run them in the
    order of a run on an abstract machine.

    Raises:
        PlanInvalidError: with the list and, where there is one, the failing line marked.
    """
    steady = train_step(layout)
    updates = tuple(action for action in steady if isinstance(action, Update))
    lists = {
        "prologue": (plan.prologue, (), 0),
        "first": (plan.first, train_step(layout, "derive"), 0),
        "steady": (plan.steady, steady, 0),
        "commit": (plan.commit, steady, 1),
        "flush": (plan.flush, updates, 1),
    }
    for label, (actions, work, num_commits) in lists.items():
        _check_work(actions, label, work, num_commits)
    machine = _machine(layout, plan.arena_bytes)
    for label in _RUN:
        machine.run(lists[label][0], label)
        if label == "flush":
            _check_empty(machine, label)


def verify_pass(
    actions: Sequence[Action], layout: Layout, arena_bytes: int, work: Sequence[Work]
) -> None:
    """Check a list that does `work` and starts and ends with an empty arena.

    Raises:
        PlanInvalidError: with the failing line marked.
    """
    _check_work(actions, "pass", work, 0)
    machine = _machine(layout, arena_bytes)
    machine.run(actions, "pass")
    _check_empty(machine, "pass")


def verify_steady(
    actions: Sequence[Action],
    resident: Sequence[Acquire],
    layout: Layout,
    arenas_bytes: Mapping[Tier, int],
    work: Sequence[Work],
    update_on: Tier,
) -> None:
    """Check a steady list that does `work`: run it several times over, and nothing may pile up.

    At the start every copy counts as current, since none is known to be older; from the second
    round on the list depends on nothing but what it did itself.

    Args:
        actions: the list.
        resident: what is held where when it begins.
        layout: its regions.
        arenas_bytes: sizes of the arenas above the disk.
        work: its arithmetic.
        update_on: the tier that updates run on; the rest runs on the highest.

    Raises:
        PlanInvalidError: with the failing line marked where there is one.
    """
    _check_work(actions, "steady", work, 0)
    machine = AbstractMachine(layout, arenas_bytes, layout.region_bytes, update_on)
    for room in resident:
        machine.hold(room)
    before = machine.rooms()
    for _ in range(_STEADY_ROUNDS):
        machine.run(actions, "steady")
        if machine.rooms() != before:
            raise PlanInvalidError("steady ends with other regions in memory than it began with")


def _check_work(
    actions: Sequence[Action], label: str, work: Sequence[Work], num_commits: int
) -> None:
    """Require exactly `work`, in its order, and every commit after the last update."""
    found = tuple(action for action in actions if isinstance(action, Compute | Update))
    if found != tuple(work):
        raise PlanInvalidError(f"{label} does other work than the schedule says")
    updates = [i for i, action in enumerate(actions) if isinstance(action, Update)]
    commits = [i for i, action in enumerate(actions) if isinstance(action, Commit)]
    if len(commits) != num_commits:
        raise PlanInvalidError(f"{label} commits {len(commits)} times instead of {num_commits}")
    if commits and updates and commits[0] < updates[-1]:
        raise PlanInvalidError(f"{label} commits before its last update")


def _check_empty(machine: AbstractMachine, label: str) -> None:
    held = [region for *_, region in machine.rooms()["host"]]
    if held:
        raise PlanInvalidError(f"{label} leaves {', '.join(held)} in host memory")


def _machine(layout: Layout, arena_bytes: int) -> AbstractMachine:
    durable = (region for region in layout.region_bytes if names.is_durable(region))
    return AbstractMachine(layout, {"host": arena_bytes}, durable, update_on="host")
