"""Start reads early and end writes late, in the room that residency left free.

Two passes over the steady stays. `write_behind` keeps a changed region in place for a while after
its last use, so that its write runs beside later arithmetic. `read_ahead` makes room before a
region's first use, so that its read does. Both only ever use room that is free at every slot they
cover, so the capacity holds by construction.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from outsize.plan.residency import Stay

_LEAST_DEPTH_BYTES = 32 * 2**20
_DEPTHS = (0.25, 1, 4, 16)
"""In units of the largest region but at least of `_LEAST_DEPTH_BYTES`. Tried on shapes of 135 M to
8 B parameters: starting deeper, or with fewer rounds, leaves up to three times as much exposed.
"""


class _Room:
    """Free bytes at every slot of the circle."""

    def __init__(self, stays: Sequence[Stay], num_slots: int, capacity_bytes: int) -> None:
        self.num_slots = num_slots
        changes = [0] * (num_slots + 1)
        held_bytes = 0
        for stay in stays:
            turns, beyond = divmod(stay.stop + 1, num_slots)
            changes[stay.start] += stay.size_bytes
            changes[beyond] -= stay.size_bytes
            held_bytes += turns * stay.size_bytes
        self._free = [
            capacity_bytes - held_bytes - change for change in accumulate(changes[:num_slots])
        ]

    def take(self, slot: int, goal: int, size_bytes: int) -> int:
        """Take `size_bytes` at every slot from beside `slot` to `goal`, as far as they are free;
        return the last one that they were taken at.
        """
        step = 1 if goal > slot else -1
        free, count = self._free, self.num_slots
        while slot != goal:
            index = (slot + step) % count
            if free[index] < size_bytes:
                break
            free[index] -= size_bytes
            slot += step
        return slot


def usual_depths(stays: Sequence[Stay]) -> tuple[int, ...]:
    """Return the depths that a step's transfers are given, in bytes, smallest first."""
    largest_bytes = max((stay.size_bytes for stay in stays), default=0)
    return tuple(int(depth * max(_LEAST_DEPTH_BYTES, largest_bytes)) for depth in _DEPTHS)


def is_written_back(stay: Stay) -> bool:
    """Tell whether a write of the stay's content goes on after its last use."""
    return stay.write_back


def is_temporary(stay: Stay) -> bool:
    """Tell whether the stay ends: of a tier whose uses are transfers to another, each goes on after
    its slot.
    """
    return not stay.permanent


def overlap_transfers(
    stays: Sequence[Stay],
    num_slots: int,
    capacity_bytes: int,
    depths_bytes: Sequence[int],
    outlasts: Callable[[Stay], bool] = is_written_back,
) -> tuple[Stay, ...]:
    """Return the stays with earlier starts and later stops.

    Depth is dealt out in rounds, so that no transfer takes the room that another needs more.

    Args:
        stays: the steady stays of one period.
        num_slots: slots of the period.
        capacity_bytes: the most that may be resident at any slot.
        depths_bytes: depth of each round, growing: by how many bytes of transfers reads may run
            ahead and writes behind.
        outlasts: tells of which stays something goes on after their last use.
    """
    room = _Room(stays, num_slots, capacity_bytes)
    limits = _neighbours(stays, num_slots)
    result = list(stays)
    for depth_bytes in depths_bytes:
        changed = _write_behind(result, room, limits, depth_bytes, outlasts)
        if not _read_ahead(result, room, limits, depth_bytes) and not changed:
            break
    return tuple(_on_circle(stay, num_slots) for stay in result)


def _neighbours(stays: Sequence[Stay], num_slots: int) -> dict[int, tuple[int, int]]:
    """For every stay: the last slot of the region's stay before it and the first of the one after
    it.
    """
    by_region: dict[str, list[int]] = {}
    for index, stay in enumerate(stays):
        by_region.setdefault(stay.region, []).append(index)
    limits = {}
    for indices in by_region.values():
        indices.sort(key=lambda i: stays[i].first)
        for position, index in enumerate(indices):
            before = stays[indices[position - 1]].last - (num_slots if position == 0 else 0)
            wrapped = position + 1 == len(indices)
            after = stays[indices[(position + 1) % len(indices)]].first
            limits[index] = (before, after + (num_slots if wrapped else 0))
    return limits


class _Queue:
    """Transfers of one lane in the order of the slots that they belong to, period after period."""

    def __init__(self, stays: Sequence[Stay], order: Sequence[int], slots: Sequence[int]) -> None:
        self.order = order
        self._slots = slots
        self._sums = [0, *accumulate(stays[i].size_bytes for i in order)]

    def slot_bytes_before(self, position: int, size_bytes: int, num_slots: int) -> int:
        """Return the slot of the transfer that `size_bytes` of transfers lie behind, counted back
        from `position`; at most a period back.
        """
        target = self._sums[position] - size_bytes
        if target >= 0:
            return self._slots[bisect_right(self._sums, target) - 1]
        place = bisect_right(self._sums, target + self._sums[-1]) - 1
        return self._slots[max(place, position)] - num_slots

    def slot_bytes_after(self, position: int, size_bytes: int, num_slots: int) -> int:
        """Return the slot of the transfer by whose end `size_bytes` more were moved; at most a
        period on.
        """
        target = self._sums[position + 1] + size_bytes
        if target <= self._sums[-1]:
            return self._slots[bisect_left(self._sums, target) - 1]
        place = bisect_left(self._sums, target - self._sums[-1]) - 1
        return self._slots[min(place, position)] + num_slots


def _write_behind(
    stays: list[Stay],
    room: _Room,
    limits: dict[int, tuple[int, int]],
    depth_bytes: int,
    outlasts: Callable[[Stay], bool],
) -> bool:
    """Move the end of each stay that is written back, or is otherwise still in use, to where
    `depth_bytes` of later ones began; tell whether any moved.
    """
    order = sorted(
        (i for i, s in enumerate(stays) if outlasts(s)), key=lambda i: (stays[i].last, i)
    )
    queue = _Queue(stays, order, [stays[i].last for i in order])
    starts = _next_starts(stays, limits, room.num_slots)
    changed = False
    for position, index in enumerate(order):
        stay = stays[index]
        goal = queue.slot_bytes_after(position, depth_bytes, room.num_slots)
        goal = min(goal, starts[index] - 1, stay.start + room.num_slots - 1)
        if stay.stop < goal:
            stop = room.take(stay.stop, goal, stay.size_bytes)
            if stop > stay.stop:
                stays[index] = replace(stay, stop=stop)
                changed = True
    return changed


def _read_ahead(
    stays: list[Stay], room: _Room, limits: dict[int, tuple[int, int]], depth_bytes: int
) -> bool:
    """Move the start of each fetch to where `depth_bytes` of earlier fetches are needed, but never
    before the start of one that is needed earlier; tell whether any moved.
    """
    order = sorted(
        (i for i, s in enumerate(stays) if s.fetch and not s.permanent),
        key=lambda i: (stays[i].first, i),
    )
    queue = _Queue(stays, order, [stays[i].first for i in order])
    ends = _last_stops(stays, limits, room.num_slots)
    earliest = -room.num_slots
    changed = False
    for position, index in enumerate(order):
        stay = stays[index]
        goal = queue.slot_bytes_before(position, depth_bytes, room.num_slots)
        floor = max(goal, earliest, ends[index] + 1, stay.stop - room.num_slots + 1)
        earliest = stay.start
        if stay.start > floor:
            earliest = room.take(stay.start, floor, stay.size_bytes)
            if earliest < stay.start:
                stays[index] = replace(stay, start=earliest)
                changed = True
    return changed


def _last_stops(
    stays: Sequence[Stay], limits: dict[int, tuple[int, int]], num_slots: int
) -> dict[int, int]:
    """For every stay: the slot at which the region's stay before it really ends, write included."""
    by_end = {(s.region, s.last % num_slots): s.stop - s.last for s in stays}
    return {
        i: limits[i][0] + by_end[(s.region, limits[i][0] % num_slots)] for i, s in enumerate(stays)
    }


def _next_starts(
    stays: Sequence[Stay], limits: dict[int, tuple[int, int]], num_slots: int
) -> dict[int, int]:
    """For every stay: the slot at which the region's stay after it really starts, read included."""
    by_start = {(s.region, s.first % num_slots): s.start - s.first for s in stays}
    return {
        i: limits[i][1] + by_start[(s.region, limits[i][1] % num_slots)]
        for i, s in enumerate(stays)
    }


def _on_circle(stay: Stay, num_slots: int) -> Stay:
    """Shift a stay by whole periods so that its start lies in the first one."""
    shift = -(stay.start // num_slots) * num_slots
    if not shift:
        return stay
    written = None if stay.written is None else stay.written + shift
    return replace(
        stay,
        start=stay.start + shift,
        first=stay.first + shift,
        last=stay.last + shift,
        stop=stay.stop + shift,
        written=written,
    )
