"""Predicted times against ones worked out by hand, on round rates."""

import pytest
from small_models import costs, lanes, least_bytes, make_layout

from outsize.plan.actions import Acquire, Commit, Compute, Fetch, Release, Update, WriteBack
from outsize.plan.build import build_plan
from outsize.plan.memory import place
from outsize.plan.prefetch import overlap_transfers
from outsize.plan.residency import moved_bytes, steady_stays
from outsize.plan.schedule import train_step, uses
from outsize.plan.simulate import simulate, work_seconds
from outsize.spec.machine import LayerCost

LAYOUT = make_layout(num_blocks=1, span_elements=1024)
STATE_BYTES = 12288
MACHINE = lanes(
    STATE_BYTES,  # one second for a span of state
    STATE_BYTES / 2,  # two seconds for it
    30 * 1024,  # one second for its update
)


def fetch(span: int) -> Fetch:
    return Fetch(f"state/0/{span}", "disk", "host", STATE_BYTES * span)


def write_back(span: int) -> WriteBack:
    return WriteBack(f"state/0/{span}", "host", "disk")


def release(span: int) -> Release:
    return Release(f"state/0/{span}", "host")


def predict(*actions, repeats: bool = False):
    return simulate(actions, LAYOUT, MACHINE, costs(LAYOUT, forward_s=3.0), repeats=repeats)


ROOM = (Acquire("weights/0", "host", 0), Acquire("gradient/0", "host", 0))
FIRST, SECOND = Update(0, 0, "optimizer"), Update(0, 1, "optimizer")


def test_three_lanes_run_beside_each_other():
    found = predict(
        *(*ROOM, fetch(0), fetch(1)),  # reads 0-1, 1-2
        *(FIRST, write_back(0)),  # waits 1 s; update 1-2, write 2-4
        *(SECOND, write_back(1)),  # update 2-3, write 4-6
        *(release(0), release(1)),  # wait till 4, till 6
    )
    assert found.step_s == 6.0
    assert found.compute_s == 2.0
    assert found.exposed_io_s == 4.0
    assert (found.read_s, found.write_s) == (2.0, 4.0)
    assert (found.bytes_read, found.bytes_written) == (2 * STATE_BYTES, 2 * STATE_BYTES)
    assert found.limited_by == "write"


def test_a_read_that_starts_early_enough_is_not_waited_for():
    found = predict(*ROOM, fetch(0), Compute(0, "forward", 0), FIRST)
    assert (found.step_s, found.exposed_io_s) == (4.0, 0.0)
    assert found.limited_by == "compute"


def test_a_region_that_is_being_written_may_be_read_but_not_changed():
    reading = Update(0, 0, "derive")
    found = predict(*ROOM, write_back(0), reading)
    assert found.exposed_io_s == 0.0
    found = predict(*ROOM, write_back(0), FIRST)
    assert found.exposed_io_s == 2.0


def test_a_commit_waits_for_state_but_not_for_scratch():
    scratch = WriteBack("weights/0", "host", "disk")
    assert predict(*ROOM, scratch, Commit()).step_s == 0.0
    assert predict(*ROOM, write_back(0), scratch, Commit()).step_s == 2.0
    assert predict(*ROOM, scratch, write_back(0), Commit()).step_s == 2.0 + 4096 / 6144


def test_a_release_waits_for_a_read_that_nobody_used():
    assert predict(fetch(0), release(0)).exposed_io_s == 1.0


def test_a_step_that_repeats_pays_for_transfers_over_its_end():
    step = (FIRST, write_back(0), release(0), fetch(0))
    once, again = predict(*step), predict(*step, repeats=True)
    assert (once.step_s, once.exposed_io_s) == (3.0, 2.0)
    assert (again.step_s, again.exposed_io_s) == (4.0, 3.0)
    assert (again.bytes_read, again.bytes_written) == (STATE_BYTES, STATE_BYTES)
    assert (again.compute_s, again.read_s, again.write_s) == (1.0, 1.0, 2.0)


def test_the_seconds_of_each_kind_of_work():
    machine = lanes(1, 1, 10)
    by_signature = {
        (spec.signature, False): LayerCost(forward_s=index + 0.25, backward_s=index + 0.5)
        for index, spec in enumerate(LAYOUT.model.layers)
    }

    def seconds(action) -> float:
        return work_seconds(LAYOUT, action, machine, by_signature)

    assert seconds(Compute(1, "forward", 0)) == 1.25
    assert seconds(Compute(1, "backward", 1)) == 1.5
    assert seconds(Compute(1, "evaluate", 0)) == 1.25
    # Forward and backward of the head are one action; its loss alone is a third of it.
    assert seconds(Compute(2, "backward", 0)) == 2.5
    assert seconds(Compute(2, "evaluate", 0)) == pytest.approx(2.5 / 3)
    assert seconds(Update(0, 1, "optimizer")) == 30 * 1024 / 10
    assert seconds(Update(0, 1, "derive")) == 6 * 1024 / 10
    assert seconds(Compute(0, "gradient_norm", 0)) == 10 * 2048 / 10


@pytest.mark.parametrize(
    ("read_s", "write_s", "lane"), [(9.0, 1.0, "read"), (1.0, 9.0, "write"), (1.0, 1.0, "compute")]
)
def test_the_lane_that_is_busy_longest_is_the_limit(read_s, write_s, lane):
    machine = lanes(STATE_BYTES / read_s, STATE_BYTES / write_s, 30 * 1024 / 2)
    actions = (*ROOM, fetch(0), FIRST, write_back(0))
    assert simulate(actions, LAYOUT, machine, {}, repeats=False).limited_by == lane


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_bytes_of_a_step_are_those_of_its_stays(factor):
    work = train_step(LAYOUT)
    slots = [uses(LAYOUT, action) for action in work]
    capacity_bytes = factor * least_bytes(LAYOUT)
    stays = steady_stays(slots, LAYOUT.region_bytes, capacity_bytes)
    stays = overlap_transfers(stays, len(work), 2 * capacity_bytes, (2**20,))
    plan = build_plan(work, place(stays, len(work)))
    found = simulate(plan.steady, LAYOUT, MACHINE, costs(LAYOUT), repeats=True)
    assert (found.bytes_read, found.bytes_written) == moved_bytes(stays)
