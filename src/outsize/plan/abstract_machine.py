"""An abstract machine that runs a list of actions and refuses any wrong move.

It knows nothing of stays or slots. It tracks which bytes of each arena belong to whom, which
version of each region lies on which tier, and which version is the newest. Read `verify.py` next:
it says which lists run in which order.
"""

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from outsize.plan import layout as names
from outsize.plan.actions import (
    Acquire,
    Action,
    Commit,
    Compute,
    Fetch,
    Release,
    Tier,
    Update,
    Work,
    WriteBack,
    format_action,
)
from outsize.plan.layout import Layout
from outsize.plan.schedule import uses
from outsize.spec.tensor import PAGE_BYTES


class PlanInvalidError(AssertionError):
    """A list would read what is not there or overwrite what is needed: a bug of the planner."""


@dataclass(slots=True)
class _Held:
    """A region on a tier: its bytes and the version that they hold (None: undefined)."""

    low: int
    high: int
    version: int | None


class _Arena:
    """The rooms of one tier that are taken."""

    def __init__(self, tier: Tier, size_bytes: int) -> None:
        self._tier = tier
        self._size_bytes = size_bytes
        self.rooms: list[tuple[int, int, str]] = []
        self.held: dict[str, _Held] = {}

    def place(self, region: str, offset: int, size_bytes: int, version: int | None) -> None:
        high = offset + size_bytes
        _require(offset % PAGE_BYTES == 0, f"{region} lies across pages")
        _require(region not in self.held, f"{region} is already there")
        _require(offset >= 0 and high <= self._size_bytes, f"{region} lies outside the arena")
        room = (offset, high, region)
        index = bisect(self.rooms, room)
        # Rooms that are taken lie apart, so only the next ones can overlap.
        for low, other_high, other in self.rooms[max(0, index - 1) : index + 1]:
            _require(high <= low or other_high <= offset, f"{region} overlaps {other}")
        self.rooms.insert(index, room)
        self.held[region] = _Held(offset, high, version)

    def find(self, region: str) -> _Held:
        where = "host memory" if self._tier == "host" else f"{self._tier} memory"
        _require(region in self.held, f"{region} is not in {where}")
        return self.held[region]

    def free(self, region: str) -> None:
        held = self.held.pop(region)
        self.rooms.remove((held.low, held.high, region))


class AbstractMachine:
    """The tiers above the disk with their arenas, the disk, and what is newest of each region."""

    def __init__(
        self, layout: Layout, arenas: Mapping[Tier, int], disk: Iterable[str], update_on: Tier
    ) -> None:
        """Make a machine with empty arenas.

        Args:
            layout: its regions.
            arenas: sizes of the arenas above the disk, in bytes.
            disk: regions that are on disk.
            update_on: the tier that updates run on; the rest runs on the highest.
        """
        self._layout = layout
        self._arenas = {tier: _Arena(tier, size_bytes) for tier, size_bytes in arenas.items()}
        self._compute_tier: Tier = "device" if "device" in arenas else "host"
        self._update_tier = update_on
        self._disk = dict.fromkeys(disk, 0)
        self._newest = dict(self._disk)
        self._version = 0

    def run(self, actions: Sequence[Action], label: str) -> None:
        """Do the actions in order.

        Raises:
            PlanInvalidError: one is wrong; the message shows it marked among its neighbours.
        """
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

    def hold(self, room: Acquire) -> None:
        """Take a room whose content is defined from the start."""
        self._place(room.region, room.tier, room.offset_bytes, self._newest[room.region])

    def rooms(self) -> dict[Tier, tuple[tuple[int, int, str], ...]]:
        """Return what is held on each tier: first byte, the one after the last, and region."""
        return {tier: tuple(arena.rooms) for tier, arena in self._arenas.items()}

    def _do(self, action: Action) -> None:
        match action:
            case Acquire(region, tier, offset) if tier in self._arenas:
                self._place(region, tier, offset, None)
            case Fetch(region, source, target, offset) if self._is_next(source, target):
                self._place(region, target, offset, self._current(region, source))
            case WriteBack(region, source, target) if self._is_next(target, source):
                held = self._arenas[source].find(region)
                _require(held.version is not None, f"{region} is undefined when written")
                version = self._current(region, source)
                if target == "disk":
                    self._disk[region] = version
                else:
                    self._arenas[target].find(region).version = version
            case Release(region, tier) if tier in self._arenas:
                self._release(region, tier)
            case Commit():
                self._commit()
            case Compute():
                self._work(action, self._compute_tier)
            case Update():
                self._work(action, self._update_tier)
            case _:
                count = "three" if "device" in self._arenas else "two"
                _require(False, f"no such transfer in a plan of {count} tiers")

    def _is_next(self, lower: Tier, upper: Tier) -> bool:
        return upper in self._arenas and (lower, upper) in (("disk", "host"), ("host", "device"))

    def _current(self, region: str, tier: Tier) -> int:
        """Return the version of a region's copy, which must be there and the newest one."""
        if tier == "disk":
            _require(region in self._disk, f"{region} is not on disk")
            version: int | None = self._disk[region]
        else:
            version = self._arenas[tier].find(region).version
        newest = self._newest.get(region)
        _require(
            version is not None and version == newest, f"the copy of {region} on {tier} is old"
        )
        return version or 0

    def _work(self, action: Work, tier: Tier) -> None:
        for use in uses(self._layout, action):
            held = self._arenas[tier].find(use.region)
            if use.mode != "write":
                _require(held.version is not None, f"{use.region} is undefined when read")
                self._current(use.region, tier)
            if use.mode != "read":
                self._version += 1
                held.version = self._newest[use.region] = self._version

    def _release(self, region: str, tier: Tier) -> None:
        self._arenas[tier].find(region)
        self._arenas[tier].free(region)
        if names.is_durable(region):
            copies = [arena.held[region] for arena in self._arenas.values() if region in arena.held]
            versions = {self._disk.get(region), *(held.version for held in copies)}
            _require(
                self._newest[region] in versions,
                f"{region} is released but newer than its copy on disk",
            )

    def _commit(self) -> None:
        for region in self._layout.region_bytes:
            if names.is_durable(region):
                newest = self._disk[region] == self._newest[region]
                _require(newest, f"{region} is committed but newer in memory")

    def _place(self, region: str, tier: Tier, offset: int, version: int | None) -> None:
        size_bytes = self._layout.region_bytes[region]
        self._arenas[tier].place(region, offset, size_bytes, version)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise PlanInvalidError(message)
