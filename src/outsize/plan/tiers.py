"""Plan a step on a machine with an accelerator: device above host above disk.

Each tier has an arena and a split of it; the steady list of the device level is the work of the
host level (`device_list.py`), and the passes are the same for both. Some splits of both are
simulated without offsets, with the optimizer's arithmetic on the device and on the host (Ren et
al., 2021, "ZeRO-Offload"); the best gets offsets and is verified. It is a plan to predict with:
nothing executes three tiers yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from outsize.plan.actions import Acquire, Action, Tier, WriteBack, format_actions
from outsize.plan.build import DEVICE_HOST, HOST_DISK, placed_list, resident_rooms, steady_list
from outsize.plan.device_list import Slot, device_level, flat_list, host_level
from outsize.plan.layout import Layout, role
from outsize.plan.level import RESIDENT_ONLY, USUAL_SPLIT, Level, Split
from outsize.plan.memory import Placement
from outsize.plan.residency import DoesNotFitError
from outsize.plan.schedule import UpdateOn
from outsize.plan.search import Objective, preferred, rank
from outsize.plan.simulate import Costs, Prediction, simulate
from outsize.plan.verify import verify_steady
from outsize.spec.machine import Lanes

_UPDATE_ON: tuple[UpdateOn, ...] = ("device", "host")
_SPREAD = Split(0.0, True)
_FIRST_SPLITS = (_SPREAD, _SPREAD)
_OTHER_SPLITS = ((USUAL_SPLIT, _SPREAD), (_SPREAD, USUAL_SPLIT))
"""Of device and host. On twelve shapes of 1 to 70 B parameters, on machines of the catalogue, the
best of these is as good as the best of all 16 pairs of four splits; the first alone is within 5 %.
"""

_HOPEFUL_FRACTION = 0.97
"""Of the better side's time with gaps: where the other's is less than this without them, it is
planned too. Planning one side takes as long as all the predictions before it.
"""

_EXPOSED_FRACTION = 0.005
"""A step that waits less than this is as fast as its arithmetic; nothing better is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredStep:
    """A verified steady step of three tiers and what it is predicted to take.

    Attributes:
        device_arena_bytes: size of the arena on the device.
        host_arena_bytes: size of the arena on the host.
        update_on: where the optimizer's arithmetic runs.
        resident: what is held where when a step begins.
        steady: a step that first applies the gradient of the step before.
        prediction: of the steady step.
        commit_bytes_written: state that steady steps never write, so that a commit has to.
        commit_bytes_from_device: the part of it that is on the device only.
    """

    device_arena_bytes: int
    host_arena_bytes: int
    update_on: UpdateOn
    resident: tuple[Acquire, ...]
    steady: tuple[Action, ...]
    prediction: Prediction
    commit_bytes_written: int
    commit_bytes_from_device: int

    def to_text(self) -> str:
        """Return the plan as text: a header, then one action a line under each list's name."""
        return (
            f"device_arena_bytes {self.device_arena_bytes}\n"
            f"host_arena_bytes {self.host_arena_bytes}\n"
            f"update_on {self.update_on}\n"
            f"[resident]\n{format_actions(self.resident)}"
            f"[steady]\n{format_actions(self.steady)}"
        )


def plan_tiers(
    layout: Layout,
    *,
    device_bytes: int,
    host_bytes: int,
    machine: Lanes,
    costs: Costs,
    objective: Objective = "time",
) -> TieredStep:
    """Return the verified plan that is about the best whose arenas are at most so large.

    Args:
        layout: the regions of the step.
        device_bytes: of the device's arena; what layers need besides is not counted.
        host_bytes: of the host's arena; may be 0 when all fits on the device. Below 0, where what
            lies outside the arena is too much already, nothing fits.
        machine: rates of the disk, the link, the device and the host.
        costs: seconds of each kind of layer on the device.
        objective: what is best.

    Raises:
        DoesNotFitError: no plan fits; `tier` says where, `needed_bytes` the least that a try would
            have needed there.

    Cost: 3 s for 70 B parameters in spans of 64 Mi elements and 4 micro-batches, a tenth of a
        second for 1 B in spans of 16 Mi. Half of it goes into offsets; see `place`.
    """
    planner = _Planner(layout, device_bytes, host_bytes, machine, costs)
    found = planner.predictions(objective)
    steps: dict[UpdateOn, TieredStep] = {}
    for one in preferred(found, objective):
        # A prediction without gaps is hopeful: with them, the other side may be better.
        goal = rank(found[one], objective)[0] / _HOPEFUL_FRACTION
        hopeful = all(goal < rank(step.prediction, objective)[0] for step in steps.values())
        if one.update_on not in steps and hopeful:
            steps |= planner.plan(one)
    for on in _UPDATE_ON:
        if not steps:
            steps |= planner.plan(_Try(on, RESIDENT_ONLY, RESIDENT_ONLY))
    if not steps:
        raise _most_useful(planner.failed)
    predictions = {on: step.prediction for on, step in steps.items()}
    return steps[next(preferred(predictions, objective))]


def estimate_tiers(
    layout: Layout,
    *,
    device_bytes: int,
    host_bytes: int,
    machine: Lanes,
    costs: Costs,
    objective: Objective = "time",
) -> Prediction:
    """Return the prediction of the usual splits with the updates on the better side, as if regions
    could lie in the arenas without gaps.

    Args:
        layout: the regions of the step.
        device_bytes: of the device's arena.
        host_bytes: of the host's arena.
        machine: rates of the disk, the link, the device and the host.
        costs: seconds of each kind of layer on the device.
        objective: what is best.

    Raises:
        DoesNotFitError: as for `plan_tiers`.

    Cost: a fifth of the time of `plan_tiers`.
    """
    planner = _Planner(layout, device_bytes, host_bytes, machine, costs)
    found = planner.first_predictions()
    if not found:
        raise _most_useful(planner.failed)
    return min(found.values(), key=lambda prediction: rank(prediction, objective))


@dataclass(frozen=True, slots=True)
class _Try:
    """Where the updates run, and how the two arenas are divided."""

    update_on: UpdateOn
    device: Split
    host: Split


class _Planner:
    """One request, and what did not fit it."""

    def __init__(
        self, layout: Layout, device_bytes: int, host_bytes: int, machine: Lanes, costs: Costs
    ) -> None:
        assert machine.device is not None, "the machine has no device"
        self._layout = layout
        self._device_bytes = device_bytes
        self._host_bytes = host_bytes
        self._machine = machine
        self._costs = costs
        self._device_levels = {on: device_level(layout, on) for on in _UPDATE_ON}
        self._host_levels: dict[tuple[UpdateOn, Split], Level[Slot]] = {}
        self.failed: list[DoesNotFitError] = []

    def first_predictions(self) -> dict[_Try, Prediction]:
        """Predict, as if regions could lie without gaps, updates on either side."""
        return self._predict([_Try(on, *_FIRST_SPLITS) for on in _UPDATE_ON])

    def predictions(self, objective: Objective) -> dict[_Try, Prediction]:
        """Predict either side, and other splits on the better one."""
        found = self.first_predictions()
        if not found:
            return found
        best = next(preferred(found, objective))
        if found[best].exposed_io_s < _EXPOSED_FRACTION * found[best].step_s:
            return found
        return found | self._predict([_Try(best.update_on, *splits) for splits in _OTHER_SPLITS])

    def plan(self, one: _Try) -> dict[UpdateOn, TieredStep]:
        """Return the plan of a try by its side; nothing when it does not fit."""
        try:
            return {one.update_on: self._plan(one)}
        except DoesNotFitError as error:
            self.failed.append(error)
            return {}

    def _plan(self, one: _Try) -> TieredStep:
        """Return the verified plan of a try.

        Raises:
            DoesNotFitError: gaps between regions make it too large.
        """
        level = self._device_levels[one.update_on]
        on_device = level.fit(self._device_bytes, one.device)
        device_list = flat_list(placed_list(level.work, on_device, DEVICE_HOST))
        below = host_level(self._layout, device_list, one.update_on)
        on_host = below.fit(self._host_bytes, one.host)
        steady = flat_list(placed_list(below.work, on_host, HOST_DISK))
        resident = (
            *resident_rooms(on_device, len(level.work), "device"),
            *resident_rooms(on_host, len(below.work), "host"),
        )
        written, from_device = _commit_bytes(self._layout, steady, on_device)
        step = TieredStep(
            device_arena_bytes=on_device.arena_bytes,
            host_arena_bytes=on_host.arena_bytes,
            update_on=one.update_on,
            resident=resident,
            steady=steady,
            prediction=self._simulate(steady, one.update_on),
            commit_bytes_written=written,
            commit_bytes_from_device=from_device,
        )
        arenas: dict[Tier, int] = {"device": step.device_arena_bytes, "host": step.host_arena_bytes}
        verify_steady(steady, resident, self._layout, arenas, level.work, one.update_on)
        return step

    def _predict(self, tries: Sequence[_Try]) -> dict[_Try, Prediction]:
        found = {}
        for one in tries:
            try:
                level = self._host_level(one.update_on, one.device)
                stays = level.stays(self._host_bytes, one.host)
            except DoesNotFitError as error:
                self.failed.append(error)
                continue
            steady = flat_list(steady_list(level.work, stays))
            found[one] = self._simulate(steady, one.update_on)
        return found

    def _host_level(self, update_on: UpdateOn, split: Split) -> Level[Slot]:
        """Return the level below a device level whose stays have no offsets."""
        key = update_on, split
        if key not in self._host_levels:
            level = self._device_levels[update_on]
            stays = level.stays(self._device_bytes, split)
            device_list = flat_list(steady_list(level.work, stays, DEVICE_HOST))
            self._host_levels[key] = host_level(self._layout, device_list, update_on)
        return self._host_levels[key]

    def _simulate(self, steady: Sequence[Action], update_on: UpdateOn) -> Prediction:
        return simulate(
            steady, self._layout, self._machine, self._costs, repeats=True, update_on=update_on
        )


def _commit_bytes(
    layout: Layout, steady: Sequence[Action], on_device: Placement
) -> tuple[int, int]:
    """Return the bytes of state that no step writes to disk, and those of them that never leave the
    device.
    """
    state = {region for region in layout.region_bytes if role(region) == "state"}
    kept = state - {a.region for a in steady if isinstance(a, WriteBack) and a.target == "disk"}
    inside = {stay.region for stay in on_device.stays if stay.permanent} & kept
    sizes = layout.region_bytes
    return sum(sizes[region] for region in kept), sum(sizes[region] for region in inside)


def _most_useful(failed: Sequence[DoesNotFitError]) -> DoesNotFitError:
    """Return the least that is needed, on the host if the device was ever large enough."""
    on_host = [error for error in failed if error.tier == "host"]
    return min(on_host or failed, key=lambda error: error.needed_bytes)
