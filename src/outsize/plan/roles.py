"""What a plan holds when it holds most, and what becomes of each block's saved activations."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from outsize.plan import layout as names
from outsize.plan.actions import (
    Acquire,
    Action,
    Compute,
    Fetch,
    Release,
    Tier,
    Update,
    WriteBack,
)
from outsize.plan.layout import Layout
from outsize.plan.schedule import uses

_WORDS: Mapping[str, str] = {
    "weights": "weights",
    "base": "frozen weights",
    "unpacked": "unpacked weights",
    "gradient": "gradients",
    "state": "optimizer state",
    "boundary": "boundary activations",
    "boundary_gradient": "boundary activations",
    "attention": "saved activations",
    "products": "saved activations",
}
_OTHER = "gradient work space"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """How many blocks do what with the products of their weights.

    Attributes:
        kept: they stay in memory from forward to backward.
        offloaded: at least one micro-batch's go to disk and back.
        recomputed: they are computed again.
    """

    kept: int
    offloaded: int
    recomputed: int


def peak_by_role(
    actions: Iterable[Action], layout: Layout, arena_bytes: int, tier: Tier = "host"
) -> dict[str, int]:
    """Return the bytes in a tier's arena by role at its fullest moment, and the gaps between its
    regions then.

    Args:
        actions: a steady step, and before it what brings in what is resident when it begins.
        layout: sizes of regions.
        arena_bytes: of the tier's arena.
        tier: whose arena.
    """
    held: dict[str, int] = {}
    total = most = 0
    fullest: dict[str, int] = {}
    for action in actions:
        match action:
            case Acquire(region, where, _) | Fetch(region, _, where, _) if where == tier:
                word = _WORDS.get(names.role(region), _OTHER)
                held[word] = held.get(word, 0) + layout.region_bytes[region]
                total += layout.region_bytes[region]
            case Release(region, where) if where == tier:
                held[_WORDS.get(names.role(region), _OTHER)] -= layout.region_bytes[region]
                total -= layout.region_bytes[region]
        if total > most:
            most, fullest = total, dict(held)
    return {
        **{word: size for word, size in fullest.items() if size},
        "gaps": arena_bytes - most,
    }


def activations(steady: Iterable[Action], layout: Layout) -> Activations:
    """Return what becomes of the products of each block in a steady step."""
    written = {a.region for a in steady if isinstance(a, WriteBack) and a.target == "disk"}
    micro_batches = range(layout.workload.num_micro_batches)
    kept = offloaded = 0
    for layer in range(1, layout.num_blocks + 1):
        if not layout.products_bytes(layer):
            continue
        if any(names.products(layer, m) in written for m in micro_batches):
            offloaded += 1
        else:
            kept += 1
    return Activations(
        kept=kept, offloaded=offloaded, recomputed=layout.num_blocks - kept - offloaded
    )


def prefetch_bytes(steady: Sequence[Action], layout: Layout, tier: Tier = "host") -> int:
    """Return the most bytes that are on their way to a tier ahead of their use: their reads have
    been started, but no action has needed them yet.
    """
    ahead: dict[str, int] = {}
    total = most = 0
    for action in (*steady, *steady):
        match action:
            case Fetch(region, _, where, _) if where == tier:
                ahead[region] = layout.region_bytes[region]
                total += ahead[region]
                most = max(most, total)
            case Compute() | Update():
                total -= sum(ahead.pop(use.region, 0) for use in uses(layout, action))
    return most
