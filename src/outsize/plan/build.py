"""From placed stays to the lists of actions that a run executes.

All five lists of a `StepPlan` come from one steady step, so a region has the same offset in each of
them and one list can follow another.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

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
)
from outsize.plan.memory import Placement
from outsize.plan.residency import Stay
from outsize.plan.step_plan import StepPlan

TierPair = tuple[Tier, Tier]
"""A tier and the one below it."""

Step = TypeVar("Step", bound=Action | tuple[Action, ...])
"""What lies in one slot."""

HOST_DISK: TierPair = ("host", "disk")
DEVICE_HOST: TierPair = ("device", "host")


def steady_list(
    work: Sequence[Step], stays: Sequence[Stay], tiers: TierPair = HOST_DISK
) -> tuple[Step | Action, ...]:
    """Return the steady step of stays that have no offsets yet, for a simulation alone."""
    return tuple(_steady(work, stays, (0,) * len(stays), tiers))


def placed_list(
    work: Sequence[Step], placement: Placement, tiers: TierPair
) -> tuple[Step | Action, ...]:
    """Return the steady step of placed stays of one pair of tiers; `work` may be such a list of the
    pair above.
    """
    return tuple(_steady(work, placement.stays, placement.offsets_bytes, tiers))


def resident_rooms(placement: Placement, num_slots: int, tier: Tier) -> tuple[Acquire, ...]:
    """Return what is held on a tier when a steady step begins, and where."""
    return tuple(
        Acquire(stay.region, tier, offset)
        for stay, offset in zip(placement.stays, placement.offsets_bytes, strict=True)
        if stay.permanent or stay.stop >= num_slots
    )


def build_plan(work: Sequence[Work], placement: Placement) -> StepPlan:
    """Return the lists of a run whose steady step does `work` with the stays of `placement`."""
    prologue = tuple(_prologue(placement, len(work)))
    steady = tuple(_steady(work, placement.stays, placement.offsets_bytes))
    return StepPlan(
        arena_bytes=placement.arena_bytes,
        prologue=prologue,
        first=tuple(first_list(steady)),
        steady=steady,
        commit=tuple(_commit(steady)),
        flush=tuple(flush_list(steady, prologue)),
    )


def build_pass(work: Sequence[Work], placement: Placement) -> tuple[int, tuple[Action, ...]]:
    """Return arena size and list of a pass that starts and ends with an empty arena, such as an
    evaluation.
    """
    prologue = tuple(_prologue(placement, len(work)))
    actions = (*prologue, *_steady(work, placement.stays, placement.offsets_bytes))
    live = _resident_after(actions)
    return placement.arena_bytes, (*actions, *(Release(region, "host") for region in live))


def _steady(
    work: Sequence[Step],
    stays: Sequence[Stay],
    offsets_bytes: Sequence[int],
    tiers: TierPair = HOST_DISK,
) -> Iterator[Step | Action]:
    num_slots = len(work)
    tier, below = tiers
    starts: list[list[tuple[bool, int, Action]]] = [[] for _ in work]
    writes: list[list[Action]] = [[] for _ in work]
    stops: list[list[Action]] = [[] for _ in work]
    for stay, offset in zip(stays, offsets_bytes, strict=True):
        if stay.permanent:
            continue
        bring = _bring(stay.region, stay.fetch, offset, tiers)
        starts[stay.start].append((stay.fetch, stay.first, bring))
        stops[stay.stop % num_slots].append(Release(stay.region, tier))
        if stay.write_back:
            assert stay.written is not None
            writes[stay.written % num_slots].append(WriteBack(stay.region, tier, below))
    for slot, action in enumerate(work):
        yield from (bring for *_, bring in sorted(starts[slot], key=lambda entry: entry[:2]))
        yield action
        yield from writes[slot]
        yield from stops[slot]


def _bring(region: str, fetch: bool, offset: int, tiers: TierPair = HOST_DISK) -> Acquire | Fetch:
    tier, below = tiers
    return Fetch(region, below, tier, offset) if fetch else Acquire(region, tier, offset)


def _prologue(placement: Placement, num_slots: int) -> Iterator[Action]:
    """Bring in what is resident at the first slot; only state has content then."""
    entries = [
        (stay.first, stay.region, offset)
        for stay, offset in zip(placement.stays, placement.offsets_bytes, strict=True)
        if stay.permanent or stay.stop >= num_slots
    ]
    for _, region, offset in sorted(entries):
        yield _bring(region, names.is_durable(region), offset)


def first_list(steady: Iterable[Action]) -> Iterator[Action]:
    """Yield the steady step without a pending gradient: nothing of the state changes, so none of it
    is written.
    """
    computed: set[str] = set()
    for action in steady:
        match action:
            case Update(layer, span, _):
                yield Update(layer, span, "derive")
            case Fetch(region, _, target, offset) if _is_pending(region, computed):
                yield Acquire(region, target, offset)
            case WriteBack(region, _, _) if names.is_durable(region):
                pass
            case Acquire(region, _, _):
                computed.add(region)
                yield action
            case _:
                yield action


def _is_pending(region: str, computed: set[str]) -> bool:
    """Tell whether the region would hold the gradient of the step before; each step makes room for
    its own anew.
    """
    return names.role(region) == "gradient" and region not in computed


def _commit(steady: Sequence[Action]) -> Iterator[Action]:
    """The steady step plus a write of every state region that it would only keep, and the commit
    itself.

    The commit comes after the backward of the last block, when the writes have had time to finish.
    """
    written = {a.region for a in steady if isinstance(a, WriteBack)}
    place = _commit_place(steady)
    for index, action in enumerate(steady):
        yield action
        if isinstance(action, Update):
            region = names.state(action.layer, action.span)
            if region not in written:
                yield WriteBack(region, "host", "disk")
        if index == place:
            yield Commit()


def _commit_place(steady: Sequence[Action]) -> int:
    """Index of the action to commit after: the last of the first layer below the head to go
    backward.
    """
    backward = [i for i, a in enumerate(steady) if isinstance(a, Compute) and a.phase == "backward"]
    head = max(a.layer for a in steady if isinstance(a, Compute))
    below = [i for i in backward if _layer(steady[i]) == head - 1]
    return (below or backward)[-1]


def _layer(action: Action) -> int:
    assert isinstance(action, Compute)
    return action.layer


def flush_list(steady: Sequence[Action], prologue: Sequence[Action]) -> Iterator[Action]:
    """Yield the updates of a steady step alone, then a commit, then an empty arena."""
    last_use = {
        region: index
        for index, action in enumerate(steady)
        if isinstance(action, Update)
        for region in _update_regions(action)
    }
    last = max(last_use.values(), default=-1)
    live = dict.fromkeys(_resident_after(prologue))
    writes = (a for a in steady[: last + 1] if isinstance(a, WriteBack))
    written = {a.region for a in writes if a.target == "disk"}
    for index, action in enumerate(steady[: last + 1]):
        match action:
            case Update(layer, span, _):
                yield action
                region = names.state(layer, span)
                if region not in written:
                    yield WriteBack(region, "host", "disk")
            case Acquire(region, _, _) | Fetch(region, _, _, _) if last_use.get(region, -1) > index:
                live[region] = None
                yield action
            case WriteBack(region, _, _) if (
                names.is_durable(region) or last_use.get(region, -1) > index
            ):
                yield action
            case Release(region, _) if region in live:
                del live[region]
                yield action
    yield Commit()
    yield from (Release(region, "host") for region in live)


def _update_regions(action: Update) -> tuple[str, str, str]:
    layer = action.layer
    return names.state(layer, action.span), names.gradient(layer), names.weights(layer)


def _resident_after(actions: Iterable[Action]) -> tuple[str, ...]:
    live: dict[str, None] = {}
    for action in actions:
        match action:
            case Acquire(region, _, _) | Fetch(region, _, _, _):
                live[region] = None
            case Release(region, _):
                live.pop(region, None)
    return tuple(live)
