"""Predicted time of a list of actions: three lanes, one clock each.

Compute runs actions in order; the read and the write lane each serve transfers first come, first
served. Compute waits for what it needs; that waiting is the exposed I/O. The same list is executed
by `runtime/executor.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from outsize.plan import layout as names
from outsize.plan.actions import Acquire, Action, Commit, Compute, Fetch, Release, Update, WriteBack
from outsize.plan.layout import Layout
from outsize.plan.schedule import uses
from outsize.spec.machine import LayerCost, MachineProfile

UPDATE_BYTES_PER_ELEMENT = 30
"""Memory traffic of the optimizer update: master and moments read and written, gradient read,
weight written.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a list is predicted to take.

    Attributes:
        step_s: wall time of the list.
        compute_s: arithmetic in it.
        read_s: busy time of the read lane; `write_s` likewise.
        exposed_io_s: time that compute waits for a transfer.
        bytes_read: read from disk; `bytes_written` likewise.
    """

    step_s: float
    compute_s: float
    read_s: float
    write_s: float
    exposed_io_s: float
    bytes_read: int
    bytes_written: int

    @property
    def limited_by(self) -> str:
        """The lane that is busy longest: `compute`, `read` or `write`."""
        lanes = {"compute": self.compute_s, "read": self.read_s, "write": self.write_s}
        return max(lanes, key=lambda lane: lanes[lane])


@dataclass(slots=True)
class _Lanes:
    layout: Layout
    machine: MachineProfile
    costs: Mapping[str, LayerCost]
    clock_s: float = 0.0
    free_s: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "write": 0.0})
    busy_s: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "write": 0.0})
    moved: dict[str, int] = field(default_factory=lambda: {"read": 0, "write": 0})
    ready_s: dict[str, float] = field(default_factory=dict)
    written_s: dict[str, float] = field(default_factory=dict)
    compute_s: float = 0.0
    exposed_s: float = 0.0

    def do(self, action: Action) -> None:
        match action:
            case Acquire():
                pass
            case Fetch(region, _, _, _):
                self.ready_s[region] = self._transfer("read", region)
            case WriteBack(region, _, _):
                self.written_s[region] = self._transfer("write", region)
            case Release(region, _):
                self._wait(self.written_s.pop(region, 0.0))
                self._wait(self.ready_s.pop(region, 0.0))
            case Commit():
                for region in [r for r in self.written_s if names.is_durable(r)]:
                    self._wait(self.written_s[region])
            case _:
                self._work(action)

    def _work(self, action: Compute | Update) -> None:
        for use in uses(self.layout, action):
            self._wait(self.ready_s.get(use.region, 0.0))
            if use.mode != "read":
                self._wait(self.written_s.get(use.region, 0.0))
        seconds = work_seconds(self.layout, action, self.machine, self.costs)
        self.clock_s += seconds
        self.compute_s += seconds

    def _transfer(self, lane: str, region: str) -> float:
        size = self.layout.region_bytes[region]
        rate = self.machine.read_bytes_per_s if lane == "read" else self.machine.write_bytes_per_s
        self.moved[lane] += size
        self.busy_s[lane] += size / rate
        self.free_s[lane] = max(self.clock_s, self.free_s[lane]) + size / rate
        return self.free_s[lane]

    def _wait(self, until_s: float) -> None:
        if until_s > self.clock_s:
            self.exposed_s += until_s - self.clock_s
            self.clock_s = until_s


def work_seconds(
    layout: Layout,
    action: Compute | Update,
    machine: MachineProfile,
    costs: Mapping[str, LayerCost],
) -> float:
    """Return the predicted arithmetic time of one action; `costs` are by layer signature."""
    if isinstance(action, Update):
        start, stop = layout.layers[action.layer].span(action.span)
        bytes_per_element = UPDATE_BYTES_PER_ELEMENT if action.kind == "optimizer" else 6
        return bytes_per_element * (stop - start) / machine.memory_bytes_per_s
    if action.phase == "gradient_norm":
        return 10 * layout.layers[action.layer].num_elements / machine.memory_bytes_per_s
    cost = costs[layout.model.layers[action.layer].signature]
    return cost.backward_s if action.phase == "backward" else cost.forward_s


def simulate(
    actions: Sequence[Action],
    layout: Layout,
    machine: MachineProfile,
    costs: Mapping[str, LayerCost],
    *,
    repeats: bool,
) -> Prediction:
    """Predict a list.

    Args:
        actions: the list.
        layout: sizes of the regions that it names.
        machine: measured rates.
        costs: measured seconds by layer signature.
        repeats: whether the list follows itself, so that transfers run over its ends: the second of
            two rounds counts.
    """
    lanes = _Lanes(layout=layout, machine=machine, costs=costs)
    if repeats:
        for action in actions:
            lanes.do(action)
        lanes.busy_s = {"read": 0.0, "write": 0.0}
        lanes.moved = {"read": 0, "write": 0}
        lanes.compute_s = lanes.exposed_s = 0.0
    start_s = lanes.clock_s
    for action in actions:
        lanes.do(action)
    return Prediction(
        step_s=lanes.clock_s - start_s,
        compute_s=lanes.compute_s,
        read_s=lanes.busy_s["read"],
        write_s=lanes.busy_s["write"],
        exposed_io_s=lanes.exposed_s,
        bytes_read=lanes.moved["read"],
        bytes_written=lanes.moved["write"],
    )
