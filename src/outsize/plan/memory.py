"""Offsets of every stay in one arena, so that nothing overlaps and the arena is small.

Lifetimes are data: stays are half-known intervals on the circle of the repeating step. Placing the
largest first at the lowest free offset is the greedy-by-size rule of Pisarchyk and Lee, 2020,
"Efficient memory management for deep neural net inference"; here intervals may wrap around the end
of the step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from outsize.plan.residency import Stay


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Offsets of stays in an arena.

    Attributes:
        stays: the stays.
        offsets_bytes: offset of each of them, in the same order.
        arena_bytes: size that the arena needs.
    """

    stays: tuple[Stay, ...]
    offsets_bytes: tuple[int, ...]
    arena_bytes: int


def place(stays: Sequence[Stay], num_slots: int) -> Placement:
    """Give every stay an offset; stays that share a slot never overlap.

    Permanent stays lie below all others. The others are placed in several orders, since none is
    always the best, and the smallest result is taken: on the shapes of 135 M to 8 B parameters that
    needs 0 to 15 % more than the most that is held at any slot.

    Cost: time grows with the square of the number of stays that are not permanent, about 60 ns for
    each pair.
    """
    offsets = [0] * len(stays)
    low_bytes = 0
    moving = []
    for index, stay in enumerate(stays):
        if stay.permanent:
            offsets[index] = low_bytes
            low_bytes += stay.size_bytes
        else:
            moving.append(index)
    tries = (
        _place_in_order(stays, order, num_slots) for order in _orders(stays, moving, num_slots)
    )
    size_bytes, found = min(tries, key=lambda one: one[0])
    for index, offset in found.items():
        offsets[index] = low_bytes + offset
    return Placement(
        stays=tuple(stays), offsets_bytes=tuple(offsets), arena_bytes=low_bytes + size_bytes
    )


def _orders(
    stays: Sequence[Stay], moving: Sequence[int], num_slots: int
) -> Iterator[Sequence[int]]:
    """Yield orders to place in: the largest first, and the same after all long stays."""
    by_size = sorted(moving, key=lambda i: (-stays[i].size_bytes, stays[i].start, i))
    for long_slots in (num_slots + 1, num_slots // 4, num_slots // 8):
        is_long = [stay.stop - stay.start >= long_slots for stay in stays]
        yield [
            *(i for i in by_size if is_long[i]),
            *(i for i in by_size if not is_long[i]),
        ]


def _place_in_order(
    stays: Sequence[Stay], order: Sequence[int], num_slots: int
) -> tuple[int, dict[int, int]]:
    """Return the size that the stays need when they are placed in this order, and their offsets."""
    placed = _Placed(len(order), num_slots)
    offsets = {index: placed.add(stays[index]) for index in order}
    return placed.size_bytes, offsets


class _Placed:
    """The stays placed so far, as columns; at most `count` of them."""

    def __init__(self, count: int, num_slots: int) -> None:
        self._num_slots = num_slots
        self._starts = np.zeros(count, np.int64)
        self._lengths = np.zeros(count, np.int64)
        self._lows = np.zeros(count, np.int64)
        self._highs = np.zeros(count, np.int64)
        self._count = 0
        self.size_bytes = 0

    def add(self, stay: Stay) -> int:
        """Return the lowest offset that is free in every slot of the stay, and take it."""
        offset = self._lowest_free(stay)
        here = self._count
        self._starts[here] = stay.start
        self._lengths[here] = stay.stop - stay.start
        self._lows[here], self._highs[here] = offset, offset + stay.size_bytes
        self._count += 1
        self.size_bytes = max(self.size_bytes, offset + stay.size_bytes)
        return offset

    def _lowest_free(self, stay: Stay) -> int:
        starts = self._starts[: self._count]
        meet = (starts - stay.start) % self._num_slots <= stay.stop - stay.start
        meet |= (stay.start - starts) % self._num_slots <= self._lengths[: self._count]
        if not meet.any():
            return 0
        lows, highs = self._lows[: self._count][meet], self._highs[: self._count][meet]
        order = np.argsort(lows, kind="stable")
        lows = lows[order]
        # The end of all that begins before: gaps lie between it and the next beginning.
        ends = np.concatenate(([0], np.maximum.accumulate(highs[order])))
        fits = np.flatnonzero(lows - ends[:-1] >= stay.size_bytes)
        return int(ends[fits[0]] if fits.size else ends[-1])


def peak_bytes(stays: Sequence[Stay], num_slots: int) -> int:
    """Return the most bytes that the stays hold at any slot; no placement can need less."""
    held = [0] * num_slots
    for stay in stays:
        for slot in range(stay.start, stay.stop + 1):
            held[slot % num_slots] += stay.size_bytes
    return max(held, default=0)
