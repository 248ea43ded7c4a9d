"""Predicted time of a list of actions: arithmetic, a lane for each kind of transfer, one clock.

Compute runs actions in order, on the device where there is one; each lane serves its transfers
first come, first served (`lanes.py`). Updates may run on the host beside the device's arithmetic.
Arithmetic on the host slows down by what the transfers beside it take from it. Compute waits for
what it needs; that waiting is the exposed I/O. The same list is executed by `runtime/executor.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outsize.plan import layout as names
from outsize.plan.actions import Action, Commit, Compute, Fetch, Release, Update, Work, WriteBack
from outsize.plan.lanes import Clock, Lane
from outsize.plan.layout import Layout
from outsize.plan.schedule import UpdateOn, uses
from outsize.spec.machine import Lanes, LayerCost

_LION_BYTES = 70
"""An element's share of what Lion's operations write and read again between them."""

_PACKED_MOMENT_BYTES = 60
"""An element's share of what it takes to unpack a moment and to pack it again."""

_LOSS_FRACTION = 1 / 3
"""Share of the head's forward and backward, which are one action, that its loss alone takes: one of
three products with the projection, one of three passes over the logits.
"""

Costs = Mapping[tuple[str, bool], LayerCost]
"""Seconds of a layer by its signature and whether its products are kept for the backward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a list is predicted to take.

    Attributes:
        step_s: wall time of the list.
        compute_s: arithmetic in it, on the device where there is one.
        read_s: busy time of the read lane; `write_s` likewise.
        exposed_io_s: time that compute waits for a transfer, or for an update on the host.
        bytes_read: read from disk; `bytes_written` likewise.
        to_device_s: busy time of copies to the device; `from_device_s` likewise.
        host_update_s: time of updates that run on the host beside the device's arithmetic.
        bytes_to_device: copied to the device; `bytes_from_device` likewise.
    """

    step_s: float
    compute_s: float
    read_s: float
    write_s: float
    exposed_io_s: float
    bytes_read: int
    bytes_written: int
    to_device_s: float = 0.0
    from_device_s: float = 0.0
    host_update_s: float = 0.0
    bytes_to_device: int = 0
    bytes_from_device: int = 0

    @property
    def limited_by(self) -> str:
        """The lane that is busy longest: `compute`, `read` or `write`; with a device also
        `to_device`, `from_device` or `host_update`.
        """
        lanes = {
            "compute": self.compute_s,
            "read": self.read_s,
            "write": self.write_s,
            "to_device": self.to_device_s,
            "from_device": self.from_device_s,
            "host_update": self.host_update_s,
        }
        return max(lanes, key=lambda lane: lanes[lane])


class _Run:
    """One list as it runs: the clock, and what was computed and waited for."""

    def __init__(self, layout: Layout, machine: Lanes, costs: Costs, update_on: UpdateOn) -> None:
        self._layout = layout
        self._machine = machine
        self._costs = costs
        self._compute_tier: UpdateOn = "host" if machine.device is None else "device"
        self._update_tier = self._compute_tier if machine.device is None else update_on
        # What a host loses to transfers is the host's own.
        on_host = self._compute_tier == "host"
        self._loss_s_per_byte = machine.compute_loss_s_per_byte if on_host else 0.0
        self.clock = Clock(machine)
        self.compute_s = 0.0
        self.exposed_s = 0.0

    def do(self, action: Action) -> None:
        clock = self.clock
        match action:
            case Fetch(region, source, target, _) | WriteBack(region, source, target):
                clock.transfer(region, source, target, self._layout.region_bytes[region])
            case Release(region, tier):
                self.exposed_s += clock.wait((region, tier), changes=True)
            case Commit():
                for region in [r for r in clock.changing("disk") if names.is_durable(r)]:
                    self.exposed_s += clock.wait((region, "disk"), changes=False)
            case Update() if self._update_tier != self._compute_tier:
                self._update_beside(action)
            case Compute() | Update():
                self._work(action)

    def _work(self, action: Work) -> None:
        clock, tier = self.clock, self._compute_tier
        for use in uses(self._layout, action):
            self.exposed_s += clock.wait((use.region, tier), changes=use.mode != "read")
        seconds = work_seconds(self._layout, action, self._machine, self._costs, tier)
        loss_s = self._loss_s_per_byte * clock.advance(seconds)
        clock.advance(loss_s)
        self.compute_s += seconds + loss_s

    def _update_beside(self, action: Update) -> None:
        used = uses(self._layout, action)
        tier = self._update_tier
        self.clock.compute_on_host(
            tuple((use.region, tier) for use in used if use.mode == "read"),
            tuple((use.region, tier) for use in used if use.mode != "read"),
            work_seconds(self._layout, action, self._machine, self._costs, tier),
        )

    def start_counting(self) -> None:
        self.compute_s = self.exposed_s = 0.0
        self.clock.start_counting()

    def prediction(self, step_s: float) -> Prediction:
        routes = self.clock.routes
        read, write = routes["disk", "host"], routes["host", "disk"]
        to_device = routes.get(("host", "device")) or Lane()
        from_device = routes.get(("device", "host")) or Lane()
        return Prediction(
            step_s=step_s,
            compute_s=self.compute_s,
            read_s=read.busy_s,
            write_s=write.busy_s,
            exposed_io_s=self.exposed_s,
            bytes_read=read.moved_bytes,
            bytes_written=write.moved_bytes,
            to_device_s=to_device.busy_s,
            from_device_s=from_device.busy_s,
            host_update_s=self.clock.host_arithmetic.busy_s,
            bytes_to_device=to_device.moved_bytes,
            bytes_from_device=from_device.moved_bytes,
        )


def update_bytes_per_element(layout: Layout) -> int:
    """Return the memory traffic of an optimizer update: master and moments read and written,
    gradient read, weight written; and what the operations of Lion, or of packed moments, which come
    one by one, hand to each other.
    """
    between = _LION_BYTES if layout.workload.optimizer == "lion" else 0
    workload = layout.workload
    moment_bytes = 8 if workload.moment_bits == 32 else _PACKED_MOMENT_BYTES
    return 8 + moment_bytes * workload.num_moments + 6 + between


def work_seconds(
    layout: Layout,
    action: Work,
    machine: Lanes,
    costs: Costs,
    tier: UpdateOn = "host",
) -> float:
    """Return the predicted arithmetic time of one action on a tier; see `Costs`."""
    rates = machine if tier == "host" or machine.device is None else machine.device
    if isinstance(action, Update):
        start, stop = layout.layers[action.layer].span(action.span)
        bytes_per_element = update_bytes_per_element(layout) if action.kind == "optimizer" else 6
        return bytes_per_element * (stop - start) / rates.update_bytes_per_s
    if action.phase == "gradient_norm":
        return 10 * layout.layers[action.layer].num_elements / rates.update_bytes_per_s
    cost = costs[layout.model.layers[action.layer].signature, layout.keeps_products(action.layer)]
    if action.phase == "unpack":
        return cost.unpack_s
    if action.phase == "evaluate" and action.layer == len(layout.layers) - 1:
        return _LOSS_FRACTION * cost.backward_s
    return cost.backward_s if action.phase == "backward" else cost.forward_s


def simulate(
    actions: Sequence[Action],
    layout: Layout,
    machine: Lanes,
    costs: Costs,
    *,
    repeats: bool,
    update_on: UpdateOn = "device",
) -> Prediction:
    """Predict a list.

    Args:
        actions: the list.
        layout: sizes of the regions that it names.
        machine: measured rates.
        costs: seconds of each kind of layer.
        repeats: whether the list follows itself, so that transfers run over its ends: the second of
            two rounds counts.
        update_on: where updates run; on the host without a device.
    """
    run = _Run(layout, machine, costs, update_on)
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
    return run.prediction(step_s)
