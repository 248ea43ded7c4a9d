"""Offsets of every stay in one arena, so that nothing overlaps and the arena is small.

Lifetimes are data: stays are half-known intervals on the circle of the repeating step. Placing the
largest first at the lowest free offset is the greedy-by-size rule of Pisarchyk and Lee, 2020,
"Efficient memory management for deep neural net inference"; here intervals may wrap around the end
of the step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Give every stay an offset; stays that share a slot never overlap."""
    order = sorted(
        range(len(stays)),
        key=lambda i: (not stays[i].permanent, -stays[i].size_bytes, stays[i].start, i),
    )
    offsets: dict[int, int] = {}
    placed: list[tuple[int, int, int, int]] = []  # start, stop, offset, end of bytes
    for index in order:
        stay = stays[index]
        taken = sorted(
            (low, high)
            for start, stop, low, high in placed
            if _meet(stay.start, stay.stop, start, stop, num_slots)
        )
        offset = 0
        for low, high in taken:
            if low - offset >= stay.size_bytes:
                break
            offset = max(offset, high)
        offsets[index] = offset
        placed.append((stay.start, stay.stop, offset, offset + stay.size_bytes))
    arena_bytes = max((high for *_, high in placed), default=0)
    return Placement(
        stays=tuple(stays),
        offsets_bytes=tuple(offsets[i] for i in range(len(stays))),
        arena_bytes=arena_bytes,
    )


def _meet(start: int, stop: int, other_start: int, other_stop: int, num_slots: int) -> bool:
    """Tell whether two inclusive intervals share a slot of the circle."""
    return (other_start - start) % num_slots <= stop - start or (
        start - other_start
    ) % num_slots <= other_stop - other_start


def peak_bytes(stays: Sequence[Stay], num_slots: int) -> int:
    """Return the most bytes that the stays hold at any slot; no placement can need less."""
    held = [0] * num_slots
    for stay in stays:
        for slot in range(stay.start, stay.stop + 1):
            held[slot % num_slots] += stay.size_bytes
    return max(held, default=0)
