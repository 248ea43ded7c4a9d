"""Start reads early and end writes late, in the room that residency left free.

Two passes over the steady stays. `write_behind` keeps a changed region in place for a while after
its last use, so that its write runs beside later arithmetic. `read_ahead` makes room before a
region's first use, so that its read does. Both only ever use room that is free at every slot they
cover, so the capacity holds by construction.
"""

from collections.abc import Sequence
from dataclasses import replace

from outsize.plan.residency import Stay


class _Room:
    """Free bytes at every slot of the circle."""

    def __init__(self, stays: Sequence[Stay], num_slots: int, capacity_bytes: int) -> None:
        self.num_slots = num_slots
        self._free = [capacity_bytes] * num_slots
        for stay in stays:
            for slot in range(stay.start, stay.stop + 1):
                self._free[slot % num_slots] -= stay.size_bytes

    def take(self, slot: int, size_bytes: int) -> bool:
        """Take `size_bytes` at one slot if they are free."""
        index = slot % self.num_slots
        if self._free[index] < size_bytes:
            return False
        self._free[index] -= size_bytes
        return True


def overlap_transfers(
    stays: Sequence[Stay], num_slots: int, capacity_bytes: int, window_bytes: int
) -> tuple[Stay, ...]:
    """Return the stays with earlier starts and later stops.

    Args:
        stays: the steady stays of one period.
        num_slots: slots of the period.
        capacity_bytes: the most that may be resident at any slot.
        window_bytes: how far, in bytes of transfers in flight, reads run ahead and writes run
            behind.
    """
    room = _Room(stays, num_slots, capacity_bytes)
    limits = _neighbours(stays, num_slots)
    result = list(stays)
    _write_behind(result, room, limits, window_bytes)
    _read_ahead(result, room, limits, window_bytes)
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


def _write_behind(
    stays: list[Stay], room: _Room, limits: dict[int, tuple[int, int]], window_bytes: int
) -> None:
    """Move the end of each written-back stay to where `window_bytes` of later writes began."""
    order = sorted(
        (i for i, s in enumerate(stays) if s.write_back), key=lambda i: (stays[i].last, i)
    )
    for position, index in enumerate(order):
        stay = stays[index]
        goal = _slot_after_bytes(stays, order, position, room.num_slots, window_bytes)
        goal = min(goal, limits[index][1] - 1, stay.start + room.num_slots - 1)
        stop = stay.last
        while stop < goal and room.take(stop + 1, stay.size_bytes):
            stop += 1
        stays[index] = replace(stay, stop=stop)


def _slot_after_bytes(
    stays: Sequence[Stay], order: Sequence[int], position: int, num_slots: int, window_bytes: int
) -> int:
    """First slot by which `window_bytes` of writes were started after the stay at `position`."""
    total = 0
    for step in range(1, len(order) + 1):
        turn, place = divmod(position + step, len(order))
        stay = stays[order[place]]
        total += stay.size_bytes
        if total >= window_bytes:
            return stay.last + turn * num_slots
    return stays[order[position]].last + num_slots


def _read_ahead(
    stays: list[Stay], room: _Room, limits: dict[int, tuple[int, int]], window_bytes: int
) -> None:
    """Move the start of each fetch ahead, in order of need, while the bytes in flight fit the
    window.
    """
    order = sorted(
        (i for i, s in enumerate(stays) if s.fetch and not s.permanent),
        key=lambda i: (stays[i].first, i),
    )
    ahead = [0] * room.num_slots
    earliest = -room.num_slots
    stops = {i: s.stop for i, s in enumerate(stays)}
    ends = _last_stops(stays, stops, limits, room.num_slots)
    for index in order:
        stay = stays[index]
        start = stay.first
        floor = max(earliest, ends[index] + 1, stay.stop - room.num_slots + 1)
        while (
            start > floor
            and ahead[(start - 1) % room.num_slots] + stay.size_bytes <= window_bytes
            and room.take(start - 1, stay.size_bytes)
        ):
            start -= 1
            ahead[start % room.num_slots] += stay.size_bytes
        earliest = start
        stays[index] = replace(stay, start=start)


def _last_stops(
    stays: Sequence[Stay],
    stops: dict[int, int],
    limits: dict[int, tuple[int, int]],
    num_slots: int,
) -> dict[int, int]:
    """For every stay: the slot at which the region's stay before it really ends, write included."""
    by_end = {(s.region, s.last % num_slots): stops[i] - s.last for i, s in enumerate(stays)}
    return {
        i: limits[i][0] + by_end[(s.region, limits[i][0] % num_slots)] for i, s in enumerate(stays)
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
