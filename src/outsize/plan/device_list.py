"""The levels of a plan with three tiers: device above host, host above disk.

The layers run on the device, and every region that they touch must be there. The steady list of
that level then is the work of the level below: a copy to the device reads a region on the host, a
copy from the device makes it new there, and an update on the host changes it there. So the passes
that decide what leaves the host for the disk are the ones that decide what leaves the device for
the host. Read `tiers.py` next: it plans both.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from outsize.plan.actions import Action, Fetch, Update, Work, WriteBack
from outsize.plan.layout import Layout
from outsize.plan.level import Level
from outsize.plan.prefetch import is_temporary
from outsize.plan.schedule import UpdateOn, Use, train_step, uses

_HOST_UPDATES_AHEAD = 2
"""Layers that an update on the host is ahead of its layer. At 1 the host stands still while the new
weights are copied to the device, which costs 8 B and 70 B parameters on a device of 80 GB 9 % of
their time; 3 and 4 gain nothing more.
"""

Slot = tuple[Action, ...]
"""Actions of a device list of which the last touches the host."""

_PATIENCE = 2
"""Of the walk of the host level. Where it does not come to rest (8 and 70 B parameters in 50 and
440 GiB) it moves as much whether it is forced to after 2 periods or after 12.
"""


def step_work(layout: Layout, update_on: UpdateOn) -> tuple[Work, ...]:
    """Return the work of one train step, updates on the host further ahead."""
    ahead = _HOST_UPDATES_AHEAD if update_on == "host" else 1
    return train_step(layout, ahead=ahead)


def device_level(layout: Layout, update_on: UpdateOn) -> Level[Work]:
    """Return what a train step touches on the device."""
    work = step_work(layout, update_on)
    on_host = [update_on == "host" and isinstance(action, Update) for action in work]
    used = [uses(layout, action) for action in work]
    return Level(
        layout,
        work,
        [() if there else found for there, found in zip(on_host, used, strict=True)],
        tier="device",
        below=[found if there else () for there, found in zip(on_host, used, strict=True)],
    )


def host_level(layout: Layout, device_list: Sequence[Action], update_on: UpdateOn) -> Level[Slot]:
    """Return what the steady list of the device level touches on the host, in slots that end with
    an action that touches it.
    """
    work: list[Slot] = []
    slots: list[tuple[Use, ...]] = []
    start = 0
    for index, action in enumerate(device_list):
        found = _host_uses(layout, action, update_on)
        if found:
            work.append(tuple(device_list[start : index + 1]))
            slots.append(found)
            start = index + 1
    if start < len(device_list):
        work.append(tuple(device_list[start:]))
        slots.append(())
    return Level(layout, work, slots, tier="host", outlasts=is_temporary, patience=_PATIENCE)


def flat_list(slots: Iterable[Action | Slot]) -> tuple[Action, ...]:
    """Return the actions of a list of which some are the slots of `host_level`."""
    return tuple(chain.from_iterable(s if isinstance(s, tuple) else (s,) for s in slots))


def _host_uses(layout: Layout, action: Action, update_on: UpdateOn) -> tuple[Use, ...]:
    match action:
        case Fetch(region, "host", "device", _):
            return (Use(region, "read"),)
        case WriteBack(region, "device", "host"):
            return (Use(region, "write"),)
        case Update() if update_on == "host":
            return uses(layout, action)
        case _:
            return ()
