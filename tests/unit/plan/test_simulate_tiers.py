"""Predicted times on a machine with a device against ones worked out by hand, on round rates."""

from dataclasses import replace

import pytest
from small_models import costs, lanes, make_layout

from outsize.machines.catalogue import catalogue_machine
from outsize.plan.actions import Acquire, Commit, Compute, Fetch, Release, Update, WriteBack
from outsize.plan.simulate import Prediction, simulate
from outsize.spec.machine import DeviceLanes, Lanes

LAYOUT = make_layout(num_blocks=1, span_elements=1024)
STATE_BYTES = 12288
DEVICE = DeviceLanes(
    to_device_bytes_per_s=2 * STATE_BYTES,  # half a second for a span of state
    from_device_bytes_per_s=STATE_BYTES,  # one second for it
    update_bytes_per_s=4 * 30 * 1024,  # a quarter of a second for its update
)
MACHINE = replace(
    lanes(
        STATE_BYTES,  # one second to read it
        STATE_BYTES / 2,  # two seconds to write it
        30 * 1024,  # one second for its update on the host
    ),
    device=DEVICE,
)
FIRST, SECOND = Update(0, 0, "optimizer"), Update(0, 1, "optimizer")
THREE_SECONDS = Compute(1, "forward", 0)
WITH_WEIGHTS = Compute(0, "forward", 0)
"""Three seconds too, with the weights that FIRST makes."""


def state(span: int = 0) -> str:
    return f"state/0/{span}"


def from_disk(region: str) -> Fetch:
    return Fetch(region, "disk", "host", 0)


def to_device(region: str) -> Fetch:
    return Fetch(region, "host", "device", 0)


def to_host(region: str) -> WriteBack:
    return WriteBack(region, "device", "host")


def to_disk(region: str) -> WriteBack:
    return WriteBack(region, "host", "disk")


def predict(*actions, machine: Lanes = MACHINE, update_on="device", repeats=False) -> Prediction:
    layer_costs = costs(LAYOUT, forward_s=3.0)
    return simulate(actions, LAYOUT, machine, layer_costs, repeats=repeats, update_on=update_on)


def on_host(*actions, machine: Lanes = MACHINE) -> Prediction:
    return predict(*actions, machine=machine, update_on="host")


def test_a_copy_to_the_device_follows_the_read_of_its_region():
    found = predict(
        *(from_disk(state(0)), to_device(state(0))),  # read 0-1, copied 1-1.5
        *(from_disk(state(1)), to_device(state(1))),  # read 1-2, copied 2-2.5
        *(FIRST, SECOND),  # 1.5-1.75, 2.5-2.75
    )
    assert (found.step_s, found.compute_s, found.exposed_io_s) == (2.75, 0.5, 2.25)
    assert (found.read_s, found.to_device_s) == (2.0, 1.0)
    assert (found.bytes_read, found.bytes_to_device) == (2 * STATE_BYTES, 2 * STATE_BYTES)
    assert found.limited_by == "read"


def test_a_write_to_disk_follows_the_copy_from_the_device():
    found = predict(FIRST, to_host(state()), to_disk(state()), Release(state(), "host"))
    assert found.step_s == 0.25 + 1.0 + 2.0
    assert (found.from_device_s, found.write_s) == (1.0, 2.0)
    assert (found.bytes_from_device, found.bytes_written) == (STATE_BYTES, STATE_BYTES)


def test_a_release_waits_for_the_transfers_of_its_own_tier():
    actions = (FIRST, to_host(state()), to_disk(state()))
    assert predict(*actions, Release(state(), "device")).step_s == 1.25
    assert predict(*actions, Release(state(), "host")).step_s == 3.25
    assert predict(*actions, Commit()).step_s == 3.25


def test_copies_in_both_directions_do_not_slow_each_other_down():
    found = predict(to_device(state(0)), to_host(state(1)), Release(state(1), "device"))
    assert (found.step_s, found.to_device_s, found.from_device_s) == (1.0, 0.5, 1.0)


def test_a_region_on_its_way_may_be_read_where_it_comes_from_but_not_changed():
    assert predict(to_host("weights/0"), WITH_WEIGHTS).exposed_io_s == 0.0
    assert predict(to_host(state()), FIRST).exposed_io_s == 1.0


def test_an_update_on_the_host_runs_beside_the_device():
    found = on_host(
        from_disk(state()),  # 0-1
        FIRST,  # 1-2 on the host
        to_device("weights/0"),  # 2 to 2 1/6
        THREE_SECONDS,  # 0-3
        WITH_WEIGHTS,  # 3-6
    )
    assert (found.step_s, found.compute_s, found.exposed_io_s) == (6.0, 6.0, 0.0)
    assert found.host_update_s == 1.0
    assert found.to_device_s == pytest.approx(1 / 6)


def test_the_device_waits_for_weights_that_the_host_makes():
    found = on_host(from_disk(state()), FIRST, to_device("weights/0"), WITH_WEIGHTS)
    assert found.exposed_io_s == pytest.approx(2 + 1 / 6)
    assert found.compute_s == 3.0


def test_an_update_on_the_host_waits_for_its_gradient_and_for_writes_of_its_state():
    gradient_s = 4096 / STATE_BYTES
    found = on_host(to_host("gradient/0"), FIRST, Release(state(), "host"))
    assert found.step_s == pytest.approx(gradient_s + 1.0)
    found = on_host(to_disk(state()), FIRST, Release(state(), "host"))
    assert found.step_s == 3.0
    found = on_host(FIRST, to_disk(state()), Release(state(), "host"))
    assert found.step_s == 3.0


def test_updates_on_the_host_are_done_in_order():
    found = on_host(FIRST, SECOND, THREE_SECONDS, Release("weights/0", "host"))
    assert (found.step_s, found.host_update_s) == (3.0, 2.0)
    found = on_host(FIRST, SECOND, Release("weights/0", "host"))
    assert found.step_s == found.exposed_io_s == 2.0
    assert found.limited_by == "host_update"


def test_transfers_slow_the_host_down_and_leave_the_device_alone():
    copying = replace(DEVICE, copy_loss_s_per_byte=1 / (2 * STATE_BYTES))
    machine = replace(MACHINE, compute_loss_s_per_byte=1 / STATE_BYTES, device=copying)
    update = (FIRST, Release(state(0), "host"))
    # Half as fast while the copy goes on: a quarter is done after half a second.
    assert on_host(to_device(state(1)), *update, machine=machine).step_s == 1.25
    # Half as fast while the read goes on: a half is done after a second.
    assert on_host(from_disk(state(1)), *update, machine=machine).step_s == 1.5
    assert on_host(from_disk(state(1)), THREE_SECONDS, machine=machine).step_s == 3.0


def test_what_a_step_leaves_undone_counts_in_the_next():
    step = (FIRST, to_host(state()), Release(state(), "device"), to_device(state()))
    once, again = predict(*step), predict(*step, repeats=True)
    assert (once.step_s, again.step_s) == (1.25, 1.75)
    assert (again.to_device_s, again.from_device_s) == (0.5, 1.0)
    queued = (FIRST, SECOND, Acquire("weights/2", "device", 0))
    assert on_host(*queued).step_s == 0.0
    assert on_host(*queued).host_update_s == 2.0


@pytest.mark.parametrize(
    ("actions", "lane"),
    [
        ((to_device(state()),), "to_device"),
        ((to_host(state()),), "from_device"),
        ((from_disk(state()),), "read"),
        ((to_disk(state()),), "write"),
        ((FIRST,), "host_update"),
        ((THREE_SECONDS, FIRST), "compute"),
    ],
)
def test_the_lane_that_is_busy_longest_is_the_limit(actions, lane):
    assert on_host(*actions).limited_by == lane


def test_a_device_updates_at_its_own_rate():
    assert predict(FIRST).compute_s == 0.25
    assert predict(FIRST, machine=replace(MACHINE, device=None)).compute_s == 1.0
    gradient_norm = Compute(0, "gradient_norm", 0)
    assert predict(gradient_norm).compute_s == 10 * 2048 / DEVICE.update_bytes_per_s


def test_a_profile_gives_lanes_of_its_accelerator():
    with_device, without = catalogue_machine("server-80gb"), catalogue_machine("laptop")
    assert without.tier_lanes == without.lanes
    found = with_device.tier_lanes
    assert replace(found, device=None) == with_device.lanes
    accelerator = with_device.accelerator
    assert found.device == DeviceLanes(
        to_device_bytes_per_s=accelerator.to_device_bytes_per_s,
        from_device_bytes_per_s=accelerator.from_device_bytes_per_s,
        update_bytes_per_s=accelerator.processor.elementwise_bytes_per_s,
        copy_loss_s_per_byte=1 / with_device.host.memory_bytes_per_s,
    )
