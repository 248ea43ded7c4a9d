"""A small machine with a device, and requests for plans on it."""

from dataclasses import replace

from small_models import MACHINE, costs, least_bytes

from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.plan.tiers import TieredStep, plan_tiers
from outsize.spec.machine import DeviceLanes, Lanes

PAGE = 4096

DEVICE = DeviceLanes(
    to_device_bytes_per_s=2e10,
    from_device_bytes_per_s=1.6e10,
    update_bytes_per_s=1e11,
    copy_loss_s_per_byte=1e-11,
)
WITH_DEVICE = replace(MACHINE, device=DEVICE)


def total_bytes(layout: Layout) -> int:
    """What holds everything at once."""
    return sum(layout.region_bytes.values())


def some_bytes(layout: Layout, fraction: float) -> int:
    """An arena between one that is just large enough and one for everything."""
    least = 3 * least_bytes(layout) // 2
    return int(least + fraction * max(0, total_bytes(layout) - least)) // PAGE * PAGE


def plan(
    layout: Layout,
    device_bytes: int,
    host_bytes: int,
    machine: Lanes = WITH_DEVICE,
    forward_s: float = 1e-4,
) -> TieredStep:
    return plan_tiers(
        layout,
        device_bytes=device_bytes,
        host_bytes=host_bytes,
        machine=machine,
        costs=costs(layout, forward_s),
    )


def plan_or_refusal(
    layout: Layout, device_bytes: int, host_bytes: int
) -> TieredStep | DoesNotFitError:
    try:
        return plan(layout, device_bytes, host_bytes)
    except DoesNotFitError as error:
        return error
