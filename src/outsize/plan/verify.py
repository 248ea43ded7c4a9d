"""An independent check of the lists: an abstract machine that runs them and refuses any wrong move.

It knows nothing of stays or slots. It tracks which bytes of the arena belong to whom, what each
region holds, and what lies on disk; then it runs prologue, first, steady, commit, steady, flush in
order. The arithmetic of each list is compared with the schedule's. Every plan passes here before a
run.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from outsize.plan import layout as names
from outsize.plan.actions import (
    Acquire,
    Action,
    Commit,
    Compute,
    Fetch,
    Release,
    Update,
    Work,
    WriteBack,
    format_action,
)
from outsize.plan.layout import Layout
from outsize.plan.schedule import train_step, uses
from outsize.plan.step_plan import StepPlan
from outsize.spec.tensor import PAGE_BYTES


class PlanInvalidError(AssertionError):
    """A list would read what is not there or overwrite what is needed: a bug of the planner."""


@dataclass(slots=True)
class _Held:
    """A region in host memory: its bytes and the version that they hold (None: undefined)."""

    low: int
    high: int
    version: int | None


@dataclass(slots=True)
class _Machine:
    layout: Layout
    arena_bytes: int
    host: dict[str, _Held] = field(default_factory=dict)
    taken: list[tuple[int, int, str]] = field(default_factory=list)
    disk: dict[str, int] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    version: int = 0

    def run(self, actions: Sequence[Action], label: str) -> None:
        for index, action in enumerate(actions):
            try:
                self._do(action)
            except PlanInvalidError as error:
                lines = [
                    f"{'>>' if i == index else '  '} {format_action(a)}"
                    for i, a in enumerate(
                        actions[max(0, index - 20) : index + 5], max(0, index - 20)
                    )
                ]
                raise PlanInvalidError(
                    f"{label}, action {index}: {error}\n" + "\n".join(lines)
                ) from error

    def _do(self, action: Action) -> None:
        match action:
            case Acquire(region, "host", offset):
                self._place(region, offset, None)
            case Fetch(region, "disk", "host", offset):
                self._require(region in self.disk, f"{region} is not on disk")
                current = self.disk[region] == self.newest[region]
                self._require(current, f"the copy of {region} on disk is old")
                self._place(region, offset, self.disk[region])
            case WriteBack(region, "host", "disk"):
                held = self._held(region)
                self._require(held.version is not None, f"{region} is undefined when written")
                self.disk[region] = held.version or 0
            case Release(region, "host"):
                held = self._held(region)
                if names.is_durable(region):
                    current = self.disk.get(region) == held.version
                    self._require(current, f"{region} is released but newer than its copy on disk")
                self.taken.remove((held.low, held.high, region))
                del self.host[region]
            case Commit():
                self._commit()
            case Compute() | Update():
                self._work(action)
            case _:
                self._require(False, "no such transfer in a plan of two tiers")

    def _work(self, action: Work) -> None:
        for use in uses(self.layout, action):
            held = self._held(use.region)
            if use.mode != "write":
                self._require(held.version is not None, f"{use.region} is undefined when read")
            if use.mode != "read":
                self.version += 1
                held.version = self.newest[use.region] = self.version

    def _commit(self) -> None:
        for region in self.layout.region_bytes:
            if names.is_durable(region):
                held = self.host.get(region)
                newest = held is None or held.version == self.disk[region]
                self._require(newest, f"{region} is committed but newer in memory")

    def _place(self, region: str, offset: int, version: int | None) -> None:
        high = offset + self.layout.region_bytes[region]
        self._require(offset % PAGE_BYTES == 0, f"{region} lies across pages")
        self._require(region not in self.host, f"{region} is already there")
        self._require(offset >= 0 and high <= self.arena_bytes, f"{region} lies outside the arena")
        # Regions that do not overlap are in one order by either end, so only neighbours can.
        place = bisect_left(self.taken, (offset, high, region))
        for low, other_high, other in self.taken[max(0, place - 1) : place + 1]:
            apart = high <= low or other_high <= offset
            self._require(apart, f"{region} overlaps {other}")
        self.taken.insert(place, (offset, high, region))
        self.host[region] = _Held(offset, high, version)

    def _held(self, region: str) -> _Held:
        self._require(region in self.host, f"{region} is not in host memory")
        return self.host[region]

    @staticmethod
    def _require(condition: bool, message: str) -> None:
        if not condition:
            raise PlanInvalidError(message)


_RUN = ("prologue", "first", "steady", "commit", "steady", "flush", "prologue", "first", "flush")
"""The order in which lists follow each other when they are verified."""


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


def _check_empty(machine: _Machine, label: str) -> None:
    if machine.host:
        raise PlanInvalidError(f"{label} leaves {', '.join(machine.host)} in host memory")


def _machine(layout: Layout, arena_bytes: int) -> _Machine:
    durable = {region: 0 for region in layout.region_bytes if names.is_durable(region)}
    return _Machine(layout=layout, arena_bytes=arena_bytes, disk=durable, newest=dict(durable))
