"""An independent check of the lists: an abstract machine that runs them and refuses any wrong move.

It knows nothing of stays or slots. It tracks which bytes of the arena belong to whom, what each
region holds, and what lies on disk; then it runs prologue, first, steady, commit, steady, flush in
order. Every plan passes here before a run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from outsize.plan import layout as names
from outsize.plan.actions import (
    Acquire,
    Action,
    Commit,
    Fetch,
    Release,
    WriteBack,
    format_action,
)
from outsize.plan.build import StepPlan
from outsize.plan.layout import Layout
from outsize.plan.schedule import uses


class PlanInvalidError(AssertionError):
    """A list would read what is not there or overwrite what is needed: a bug of the planner."""


@dataclass(slots=True)
class _Held:
    """A region in host memory: its bytes, its version (None: undefined) and whether disk lacks it."""

    low: int
    high: int
    version: int | None


@dataclass(slots=True)
class _Machine:
    layout: Layout
    arena_bytes: int
    host: dict[str, _Held] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)
    writing: set[str] = field(default_factory=set)
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
                self._place(region, offset, self.disk[region])
            case WriteBack(region, "host", "disk"):
                held = self._held(region)
                self._require(held.version is not None, f"{region} is undefined")
                self.disk[region] = held.version or 0
                self.writing.add(region)
            case Release(region, "host"):
                held = self._held(region)
                if names.is_durable(region):
                    current = self.disk.get(region) == held.version
                    self._require(current, f"{region} is released but newer than its copy on disk")
                del self.host[region]
            case Commit():
                self._commit()
            case _:
                self._work(action)

    def _work(self, action: Action) -> None:
        for use in uses(self.layout, action):  # type: ignore[arg-type]
            held = self._held(use.region)
            if use.mode != "write":
                self._require(held.version is not None, f"{use.region} is undefined when read")
            if use.mode != "read":
                self.version += 1
                held.version = self.version

    def _commit(self) -> None:
        for region in self.layout.region_bytes:
            if names.is_durable(region):
                held = self.host.get(region)
                newest = held is None or held.version == self.disk[region]
                self._require(newest, f"{region} is committed but newer in memory")

    def _place(self, region: str, offset: int, version: int | None) -> None:
        high = offset + self.layout.region_bytes[region]
        self._require(region not in self.host, f"{region} is already there")
        self._require(0 <= offset and high <= self.arena_bytes, f"{region} lies outside the arena")
        for other, held in self.host.items():
            apart = high <= held.low or held.high <= offset
            self._require(apart, f"{region} overlaps {other}")
        self.host[region] = _Held(offset, high, version)

    def _held(self, region: str) -> _Held:
        self._require(region in self.host, f"{region} is not in host memory")
        return self.host[region]

    @staticmethod
    def _require(condition: bool, message: str) -> None:
        if not condition:
            raise PlanInvalidError(message)


def verify_plan(plan: StepPlan, layout: Layout) -> None:
    """Run the lists of a plan in the order of a run on an abstract machine.

    Raises:
        PlanInvalidError: with the list and the failing line marked.
    """
    machine = _machine(layout, plan.arena_bytes)
    order = (
        "prologue",
        "first",
        "steady",
        "commit",
        "steady",
        "flush",
        "prologue",
        "first",
        "flush",
    )
    lists = {
        "prologue": plan.prologue, "first": plan.first, "steady": plan.steady,
        "commit": plan.commit, "flush": plan.flush,
    }  # fmt: skip
    for label in order:
        machine.run(lists[label], label)
        if label == "flush" and machine.host:
            raise PlanInvalidError(f"flush leaves {', '.join(machine.host)} in host memory")


def verify_pass(actions: Iterable[Action], layout: Layout, arena_bytes: int) -> None:
    """Run a list that starts and ends with an empty arena.

    Raises:
        PlanInvalidError: with the failing line marked.
    """
    machine = _machine(layout, arena_bytes)
    machine.run(tuple(actions), "pass")
    if machine.host:
        raise PlanInvalidError(f"the pass leaves {', '.join(machine.host)} in host memory")


def _machine(layout: Layout, arena_bytes: int) -> _Machine:
    durable = {region: 0 for region in layout.region_bytes if names.is_durable(region)}
    return _Machine(layout=layout, arena_bytes=arena_bytes, disk=durable)
