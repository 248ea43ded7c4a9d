"""One tier's part of a step: what each action touches there, what stays, and where it lies.

A plan of two tiers has one level, the host above the disk; with a device there is another one above
it. How much of an arena residency may use, and how much transfers in flight, is a `Split`; read
`search.py` and `tiers.py` next, which choose it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from outsize.plan.actions import Action, Tier
from outsize.plan.layout import Layout, role
from outsize.plan.memory import Placement, place
from outsize.plan.prefetch import is_written_back, overlap_transfers, usual_depths
from outsize.plan.residency import PATIENCE, DoesNotFitError, Stay, largest_slot_bytes, steady_stays
from outsize.plan.schedule import Use

_SHRINK_ROUNDS = 10

Slots = Sequence[tuple[Use, ...]]
Step = TypeVar("Step", bound=Action | tuple[Action, ...])


@dataclass(frozen=True, slots=True)
class Split:
    """How an arena is divided.

    Attributes:
        reserve: fraction of it that residency leaves to transfers in flight.
        spread: whether the state that never leaves is spread evenly over the step.
    """

    reserve: float
    spread: bool


RESIDENT_ONLY = Split(0.0, False)
USUAL_SPLIT = Split(0.1, True)


class Level(Generic[Step]):
    """A list and what it touches on one tier.

    Attributes:
        work: the list; each action is one slot of the stays.
        slots: what each of them touches on the tier.
        least_bytes: what the largest action touches; no arena below it is enough.
    """

    def __init__(
        self,
        layout: Layout,
        work: Sequence[Step],
        slots: Slots,
        *,
        tier: Tier = "host",
        below: Slots = (),
        outlasts: Callable[[Stay], bool] = is_written_back,
        patience: int = PATIENCE,
    ) -> None:
        """Make a level.

        Args:
            layout: sizes of the regions.
            work: the list.
            slots: what each action of it touches on the tier.
            tier: which one.
            below: what each action touches on the tier below; empty when none does.
            outlasts: tells of which stays something goes on after their last use.
            patience: see `steady_stays`.
        """
        self.layout = layout
        self.work = work
        self.least_bytes = largest_slot_bytes(slots, layout.region_bytes)
        self.slots = slots
        self._tier = tier
        self._below = below
        self._outlasts = outlasts
        self._patience = patience
        self._made = _made_below(below)
        self._found: dict[tuple[int, frozenset[str]], tuple[Stay, ...]] = {}

    def stays(self, room_bytes: int, split: Split) -> tuple[Stay, ...]:
        """Return stays that hold at most `room_bytes` at once.

        Raises:
            DoesNotFitError: one action alone needs more.
        """
        resident_bytes = max(self.least_bytes, int(room_bytes * (1 - split.reserve)))
        if resident_bytes > room_bytes:
            raise DoesNotFitError(self.least_bytes, self._tier)
        try:
            stays = self._resident(resident_bytes, frozenset())
            spread = self._spread(stays) if split.spread else frozenset()
            if spread:
                stays = self._resident(resident_bytes, spread)
        except DoesNotFitError as error:
            needed_bytes = error.needed_bytes + room_bytes - resident_bytes
            raise DoesNotFitError(needed_bytes, self._tier) from error
        found = overlap_transfers(
            (*stays, *self._made),
            len(self.work),
            room_bytes,
            usual_depths(stays),
            self._outlasts,
        )
        return found[: len(stays)]

    def fit(self, arena_bytes: int, split: Split) -> Placement:
        """Place the stays in an arena; where gaps make it too large, plan again with less.

        Raises:
            DoesNotFitError: not even that fits.
        """
        room_bytes = arena_bytes
        if self.least_bytes > arena_bytes:
            raise DoesNotFitError(self.least_bytes, self._tier)
        for _ in range(_SHRINK_ROUNDS):
            try:
                placement = place(self.stays(room_bytes, split), len(self.work))
            except DoesNotFitError as error:
                needed_bytes = error.needed_bytes + arena_bytes - room_bytes
                raise DoesNotFitError(needed_bytes, self._tier) from error
            overrun_bytes = placement.arena_bytes - arena_bytes
            if overrun_bytes <= 0:
                return placement
            if room_bytes == self.least_bytes:
                break
            room_bytes = max(self.least_bytes, room_bytes - overrun_bytes)
        raise DoesNotFitError(placement.arena_bytes, self._tier)

    def _resident(self, resident_bytes: int, permanent: frozenset[str]) -> tuple[Stay, ...]:
        key = resident_bytes, permanent
        if key not in self._found:
            self._found[key] = self._walk(resident_bytes, permanent)
        return self._found[key]

    def _walk(self, resident_bytes: int, permanent: frozenset[str]) -> tuple[Stay, ...]:
        # What must not go to disk may still leave a device.
        products = self.layout.pins_products and self._tier == "host"

        def pinned(region: str) -> bool:
            return region in permanent or (products and role(region) == "products")

        sizes = self.layout.region_bytes
        return steady_stays(self.slots, sizes, resident_bytes, pinned, self._below, self._patience)

    def _spread(self, stays: Sequence[Stay]) -> frozenset[str]:
        """Return as many regions of state as never come from below, evenly spread over the step.

        Each of them is used once in a step, so which of them stay makes no difference to the bytes
        that move, but traffic that comes evenly hides better than traffic all at once.
        """
        used = (u.region for slot in self.slots for u in slot if role(u.region) == "state")
        state = tuple(dict.fromkeys(used))
        fetched = {s.region for s in stays if s.fetch and not s.permanent} & set(state)
        count = len(state) - len(fetched)
        return frozenset(
            region
            for index, region in enumerate(state)
            if (index + 1) * count // len(state) > index * count // len(state)
        )


def _made_below(below: Slots) -> tuple[Stay, ...]:
    """Return a stay of no bytes wherever the tier below makes content new: no fetch of a region
    starts before such a stay of it has ended.
    """
    return tuple(
        Stay(
            region=use.region,
            size_bytes=0,
            first=slot,
            last=slot,
            fetch=False,
            written=None,
            write_back=False,
            start=slot,
            stop=slot,
        )
        for slot, uses in enumerate(below)
        for use in uses
        if use.mode != "read"
    )
