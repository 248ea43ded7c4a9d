"""What stays on a tier and what leaves it for the tier below, decided from the known order of use.

The whole list is known ahead and repeats every step, so residency is no cache with a guess: when
room is needed, the region whose next use is farthest away leaves (Belady, 1966, "A study of
replacement algorithms"). The list is walked period after period until what is resident at its end
no longer changes; that period is the steady state. The upper tier is the host and the one below the
disk, or the device and the host.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from outsize.plan.actions import Tier
from outsize.plan.schedule import Use

PATIENCE = 12
_BELOW = "below"


class DoesNotFitError(Exception):
    """The capacity of a tier is too small; not shown to users, the search answers it."""

    def __init__(self, needed_bytes: int, tier: Tier = "host") -> None:
        self.needed_bytes = needed_bytes
        self.tier = tier
        super().__init__(f"{needed_bytes} bytes are needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One uninterrupted stay of a region on a tier, on the circle of `num_slots` slots.

    Attributes:
        region: its name.
        size_bytes: its size.
        first: slot of its first use, in [0, num_slots).
        last: slot of its last use; at or beyond num_slots when the stay goes on into the next
            period.
        fetch: whether its content comes from the tier below.
        written: slot of the last change of its content during the stay; None when it is only read.
        write_back: whether its content is still needed after the stay.
        permanent: whether it never leaves; first and last then span the whole circle.
        start: slot before which room is made; not after `first`.
        stop: last slot that it occupies; not before `last`.
    """

    region: str
    size_bytes: int
    first: int
    last: int
    fetch: bool
    written: int | None
    write_back: bool
    permanent: bool = False
    start: int
    stop: int


@dataclass(slots=True)
class _Open:
    """A stay that has not ended yet; slots count from the start of the first period."""

    first: int
    fetch: bool
    last: int
    written: int | None = None


def _nothing(region: str) -> bool:
    return False


def steady_stays(
    slots: Sequence[tuple[Use, ...]],
    sizes: Mapping[str, int],
    capacity_bytes: int,
    pinned: Callable[[str], bool] = _nothing,
    below: Sequence[tuple[Use, ...]] = (),
    patience: int = PATIENCE,
) -> tuple[Stay, ...]:
    """Return the stays of the steady period of a list that repeats forever.

    Args:
        slots: what each action of the list touches on this tier; may be nothing.
        sizes: bytes of every region.
        capacity_bytes: the most that may be resident during any action.
        pinned: tells which regions must not leave while their content is needed.
        below: what each action touches on the tier below; empty when none does. A stay ends before
            such a use, written back if the use needs what it changed.
        patience: periods after which a walk that does not come to rest is forced to.

    Raises:
        DoesNotFitError: one action alone, or one with what is pinned, needs more than
            `capacity_bytes`.

    Cost: time grows with the number of uses times its logarithm.
    """
    least_bytes = largest_slot_bytes(slots, sizes)
    if least_bytes > capacity_bytes:
        raise DoesNotFitError(least_bytes)
    walk = _Walk(slots, sizes, capacity_bytes, pinned, below)
    seen = None
    for _ in range(patience):
        walk.one_period()
        state = walk.state()
        if state == seen:
            break
        seen = state
    else:
        walk.settle()
    # Stays that ended in the period before may have begun in one that went otherwise.
    walk.one_period()
    return walk.last_period()


def largest_slot_bytes(slots: Sequence[tuple[Use, ...]], sizes: Mapping[str, int]) -> int:
    """Return the most bytes that one action touches; no capacity below it is enough."""
    return max(sum(sizes[use.region] for use in slot) for slot in slots)


class _Walk:
    """Walks the list with a set of resident regions and records stays as they end."""

    def __init__(
        self,
        slots: Sequence[tuple[Use, ...]],
        sizes: Mapping[str, int],
        capacity_bytes: int,
        pinned: Callable[[str], bool],
        below: Sequence[tuple[Use, ...]],
    ) -> None:
        self._slots = slots
        self._sizes = sizes
        self._capacity_bytes = capacity_bytes
        self._next = _next_uses(slots, below or [()] * len(slots))
        self._pinned = {r for r in {use.region for uses in slots for use in uses} if pinned(r)}
        self._open: dict[str, _Open] = {}
        self._used_bytes = 0
        self._next_of: dict[str, int] = {}
        # Regions by next use, the farthest first; entries whose next use has passed are skipped.
        self._farthest: list[tuple[int, str]] = []
        self._ended: list[tuple[str, _Open, bool]] = []
        self._period = 0
        self._kept: frozenset[str] | None = None

    def one_period(self) -> None:
        self._ended = []
        for index, slot in enumerate(self._slots):
            self._visit(index, slot)
        if self._kept is not None:
            for region in self._open.keys() - self._kept:
                self._end(region, write_back=True)
        self._period += 1

    def settle(self) -> None:
        """Force a steady state: what is not resident at the end of every period leaves there."""
        kept = None
        while kept != self._open.keys():
            kept = self._kept = frozenset(self._open)
            self.one_period()

    def _visit(self, index: int, slot: tuple[Use, ...]) -> None:
        now = self._period * len(self._slots) + index
        opened, sizes = self._open, self._sizes
        missing_bytes = sum([sizes[use.region] for use in slot if use.region not in opened])
        if self._used_bytes + missing_bytes > self._capacity_bytes:
            self._make_room(missing_bytes, {use.region for use in slot})
        following = self._next[index]
        for use in slot:
            region = use.region
            stay = opened.get(region)
            if stay is None:
                stay = opened[region] = _Open(first=now, fetch=use.mode != "write", last=now)
                self._used_bytes += sizes[region]
            stay.last = now
            if use.mode != "read":
                stay.written = now
            distance, mode = following[region]
            if mode in ("write", _BELOW):
                self._end(region, write_back=mode == _BELOW)
            elif region not in self._pinned:
                self._next_of[region] = now + distance
                heapq.heappush(self._farthest, (-now - distance, region))

    def _make_room(self, missing_bytes: int, needed: set[str]) -> None:
        """Let the regions whose next use is farthest away leave until `missing_bytes` are free."""
        passed_over: list[tuple[int, str]] = []
        while self._used_bytes + missing_bytes > self._capacity_bytes:
            if not self._farthest:
                raise DoesNotFitError(self._used_bytes + missing_bytes)
            entry = heapq.heappop(self._farthest)
            region = entry[1]
            if region not in self._open or self._next_of[region] != -entry[0]:
                continue
            if region in needed:
                passed_over.append(entry)
            else:
                self._end(region, write_back=True)
        for entry in passed_over:
            heapq.heappush(self._farthest, entry)

    def _end(self, region: str, *, write_back: bool) -> None:
        stay = self._open.pop(region)
        self._used_bytes -= self._sizes[region]
        self._ended.append((region, stay, write_back and stay.written is not None))

    def _stay(self, region: str, stay: _Open, *, write_back: bool) -> Stay:
        count = len(self._slots)
        turn = stay.first // count * count
        first, last = stay.first - turn, stay.last - turn
        return Stay(
            region=region,
            size_bytes=self._sizes[region],
            first=first,
            last=last,
            fetch=stay.fetch,
            written=None if stay.written is None else stay.written - turn,
            write_back=write_back,
            start=first,
            stop=last,
        )

    def state(self) -> frozenset[tuple[str, bool]]:
        return frozenset((region, stay.written is not None) for region, stay in self._open.items())

    def last_period(self) -> tuple[Stay, ...]:
        """Return the stays that ended in the last period, and the permanent ones."""
        count = len(self._slots)
        period_start = (self._period - 1) * count
        permanent = [
            replace(
                self._stay(region, stay, write_back=False),
                first=0,
                last=count - 1,
                start=0,
                stop=count - 1,
                fetch=True,
                permanent=True,
            )
            for region, stay in self._open.items()
            if stay.first < period_start
        ]
        ended = (self._stay(region, stay, write_back=saved) for region, stay, saved in self._ended)
        return (*permanent, *ended)


def _next_uses(
    slots: Sequence[tuple[Use, ...]], below: Sequence[tuple[Use, ...]]
) -> list[dict[str, tuple[int, str]]]:
    """For every slot and region: slots until its next use on the circle, and that use's mode, or
    `_BELOW` when it needs the content on the tier below.
    """
    count = len(slots)
    upcoming: dict[str, tuple[int, str]] = {}
    result: list[dict[str, tuple[int, str]]] = [{} for _ in slots]
    for position in range(2 * count - 1, -1, -1):
        index = position % count
        if position < count:
            result[index] = {
                use.region: (upcoming[use.region][0] - position, upcoming[use.region][1])
                for use in slots[index]
            }
        for use in slots[index]:
            upcoming[use.region] = (position, use.mode)
        for use in below[index]:
            upcoming[use.region] = (position, use.mode if use.mode == "write" else _BELOW)
    return result


def moved_bytes(stays: Iterable[Stay]) -> tuple[int, int]:
    """Return the bytes that the stays read from the tier below and write to it in one period."""
    stays = tuple(stays)
    read = sum(s.size_bytes for s in stays if s.fetch and not s.permanent)
    written = sum(s.size_bytes for s in stays if s.write_back)
    return read, written
