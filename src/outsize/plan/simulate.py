"""Predicted time of a list of actions: three lanes and one clock.

Compute runs actions in order; the read and the write lane each serve transfers first come, first
served, each at one rate alone and at another beside the other. Arithmetic slows down by what the
transfers beside it take from it. Compute waits for what it needs; that waiting is the exposed I/O.
The same list is executed by `runtime/executor.py`.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outsize.plan import layout as names
from outsize.plan.actions import Action, Commit, Compute, Fetch, Release, Update, WriteBack
from outsize.plan.layout import Layout
from outsize.plan.schedule import uses
from outsize.spec.machine import Lanes, LayerCost

UPDATE_BYTES_PER_ELEMENT = 30
"""Memory traffic of the optimizer update: master and moments read and written, gradient read,
weight written.
"""

Costs = Mapping[tuple[str, bool], LayerCost]
"""Seconds of a layer by its signature and whether its products are kept for the backward."""


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


class _Lane:
    """One direction of transfers: a queue that is served first come, first served."""

    def __init__(self, alone_bytes_per_s: float, beside_bytes_per_s: float) -> None:
        self.alone_bytes_per_s = alone_bytes_per_s
        self.beside_bytes_per_s = beside_bytes_per_s
        self.queue: deque[tuple[str, float]] = deque()
        self.waiting: dict[str, int] = {}
        self.left_bytes = 0.0
        self.busy_s = 0.0
        self.moved_bytes = 0

    def add(self, region: str, size_bytes: int) -> None:
        if not self.queue:
            self.left_bytes = size_bytes
        self.queue.append((region, size_bytes))
        self.waiting[region] = self.waiting.get(region, 0) + 1
        self.moved_bytes += size_bytes

    def rate(self, other: "_Lane") -> float:
        return self.beside_bytes_per_s if other.queue else self.alone_bytes_per_s

    def move(self, seconds: float, rate: float) -> float:
        """Let the head of the queue move on; return the bytes that went."""
        moved = min(self.left_bytes, seconds * rate)
        self.left_bytes -= moved
        self.busy_s += seconds
        # What is left of a head that should be done by now is rounding.
        if self.left_bytes <= 1e-6 * rate * seconds + 1e-9:
            region, _ = self.queue.popleft()
            self.waiting[region] -= 1
            self.left_bytes = self.queue[0][1] if self.queue else 0.0
        return moved


class _Clock:
    """Time, and the two lanes of transfers that move on with it.

    Each lane serves one transfer at a time; while both are busy, each runs at the rate that it has
    beside the other.
    """

    def __init__(self, machine: Lanes) -> None:
        self.now_s = 0.0
        self.read = _Lane(machine.read_bytes_per_s, machine.read_beside_write_bytes_per_s)
        self.write = _Lane(machine.write_bytes_per_s, machine.write_beside_read_bytes_per_s)

    def advance(self, seconds: float) -> float:
        """Let `seconds` pass; return the bytes that went meanwhile."""
        moved = 0.0
        while seconds > 0 and (self.read.queue or self.write.queue):
            moved += self._one_event(seconds)
            seconds -= self._passed_s
        self.now_s += max(0.0, seconds)
        return moved

    def wait(self, lane: _Lane, region: str) -> float:
        """Let time pass until a lane has no transfer of `region` left; return how long it took."""
        start_s = self.now_s
        while lane.waiting.get(region):
            self._one_event(math.inf)
        return self.now_s - start_s

    def drain(self) -> None:
        """Let time pass until both lanes are done."""
        while self.read.queue or self.write.queue:
            self._one_event(math.inf)

    def _one_event(self, most_s: float) -> float:
        """Let time pass until a transfer ends, but at most `most_s`; return the bytes that went."""
        read_rate, write_rate = self.read.rate(self.write), self.write.rate(self.read)
        busy = [(self.read, read_rate)] if self.read.queue else []
        if self.write.queue:
            busy.append((self.write, write_rate))
        passed = min(most_s, *(lane.left_bytes / rate for lane, rate in busy))
        self._passed_s = passed
        self.now_s += passed
        return sum(lane.move(passed, rate) for lane, rate in busy)


class _Run:
    """One list as it runs: the clock, and what was computed and waited for."""

    def __init__(self, layout: Layout, machine: Lanes, costs: Costs) -> None:
        self._layout = layout
        self._machine = machine
        self._costs = costs
        self.clock = _Clock(machine)
        self.compute_s = 0.0
        self.exposed_s = 0.0

    def do(self, action: Action) -> None:
        sizes = self._layout.region_bytes
        match action:
            case Fetch(region, _, _, _):
                self.clock.read.add(region, sizes[region])
            case WriteBack(region, _, _):
                self.clock.write.add(region, sizes[region])
            case Release(region, _):
                self.exposed_s += self.clock.wait(self.clock.write, region)
                self.exposed_s += self.clock.wait(self.clock.read, region)
            case Commit():
                for region in [r for r in self.clock.write.waiting if names.is_durable(r)]:
                    self.exposed_s += self.clock.wait(self.clock.write, region)
            case Compute() | Update():
                self._work(action)

    def _work(self, action: Compute | Update) -> None:
        clock = self.clock
        for use in uses(self._layout, action):
            if clock.read.queue:
                self.exposed_s += clock.wait(clock.read, use.region)
            if use.mode != "read" and clock.write.queue:
                self.exposed_s += clock.wait(clock.write, use.region)
        seconds = work_seconds(self._layout, action, self._machine, self._costs)
        loss_s = self._machine.compute_loss_s_per_byte * clock.advance(seconds)
        clock.advance(loss_s)
        self.compute_s += seconds + loss_s

    def start_counting(self) -> None:
        self.compute_s = self.exposed_s = 0.0
        for lane in (self.clock.read, self.clock.write):
            lane.busy_s, lane.moved_bytes = 0.0, 0


def work_seconds(
    layout: Layout,
    action: Compute | Update,
    machine: Lanes,
    costs: Costs,
) -> float:
    """Return the predicted arithmetic time of one action; see `Costs`."""
    if isinstance(action, Update):
        start, stop = layout.layers[action.layer].span(action.span)
        bytes_per_element = UPDATE_BYTES_PER_ELEMENT if action.kind == "optimizer" else 6
        return bytes_per_element * (stop - start) / machine.update_bytes_per_s
    if action.phase == "gradient_norm":
        return 10 * layout.layers[action.layer].num_elements / machine.update_bytes_per_s
    cost = costs[layout.model.layers[action.layer].signature, layout.keeps_products(action.layer)]
    return cost.backward_s if action.phase == "backward" else cost.forward_s


def simulate(
    actions: Sequence[Action],
    layout: Layout,
    machine: Lanes,
    costs: Costs,
    *,
    repeats: bool,
) -> Prediction:
    """Predict a list.

    Args:
        actions: the list.
        layout: sizes of the regions that it names.
        machine: measured rates.
        costs: seconds of each kind of layer.
        repeats: whether the list follows itself, so that transfers run over its ends: the second of
            two rounds counts.
    """
    run = _Run(layout, machine, costs)
    if repeats:
        for action in actions:
            run.do(action)
        run.start_counting()
    clock = run.clock
    start_s = clock.now_s
    for action in actions:
        run.do(action)
    step_s = clock.now_s - start_s
    if not repeats:
        clock.drain()
    return Prediction(
        step_s=step_s,
        compute_s=run.compute_s,
        read_s=clock.read.busy_s,
        write_s=clock.write.busy_s,
        exposed_io_s=run.exposed_s,
        bytes_read=clock.read.moved_bytes,
        bytes_written=clock.write.moved_bytes,
    )
