"""Reads and writes that slow each other and the arithmetic down, worked out by hand."""

from dataclasses import replace

import pytest
from decoders import LANES, make_candidate, make_decoder, range_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import costs, list_bytes, make_layout

from outsize.plan.actions import Action, Fetch, Release, Update, WriteBack
from outsize.plan.choose import choose
from outsize.plan.simulate import Prediction, simulate
from outsize.spec.machine import Lanes

LAYOUT = make_layout(num_blocks=1, vocab=128, span_elements=1024)  # the table has four spans
STATE_BYTES = 12288
ALONE = Lanes(
    read_bytes_per_s=STATE_BYTES,  # one second for a span of state
    write_bytes_per_s=STATE_BYTES / 2,  # two seconds
    read_beside_write_bytes_per_s=STATE_BYTES / 2,  # two seconds while writes go on
    write_beside_read_bytes_per_s=STATE_BYTES / 4,  # four seconds while reads go on
    update_bytes_per_s=30 * 1024,  # one second for the update of a span
)
HALF_A_SECOND_A_SPAN = 0.5 / STATE_BYTES
LOSING = replace(ALONE, compute_loss_s_per_byte=HALF_A_SECOND_A_SPAN)


def fetch(span: int) -> Fetch:
    return Fetch(f"state/0/{span}", "disk", "host", 0)


def write_back(span: int) -> WriteBack:
    return WriteBack(f"state/0/{span}", "host", "disk")


def release(span: int) -> Release:
    return Release(f"state/0/{span}", "host")


def update(span: int) -> Update:
    return Update(0, span, "optimizer")


def predict(*actions: Action, machine: Lanes = ALONE) -> Prediction:
    return simulate(actions, LAYOUT, machine, costs(LAYOUT), repeats=False)


def test_both_lanes_are_slow_until_one_is_done() -> None:
    # Until 2 both move: the read ends, half of the write is done; the other half takes 1 s alone.
    found = predict(fetch(0), write_back(1), release(0), release(1))
    assert (found.read_s, found.write_s) == (2.0, 3.0)
    assert (found.step_s, found.exposed_io_s, found.compute_s) == (3.0, 3.0, 0.0)
    assert (found.bytes_read, found.bytes_written) == (STATE_BYTES, STATE_BYTES)


def test_a_lane_slows_down_when_the_other_begins() -> None:
    # The write has half of its bytes done after 1 s alone; from then on both need 2 s.
    found = predict(write_back(1), update(0), fetch(2), release(1), release(2))
    assert found.step_s == 3.0
    assert (found.read_s, found.write_s) == (2.0, 3.0)
    assert (found.compute_s, found.exposed_io_s) == (1.0, 2.0)


def test_a_lane_speeds_up_again_between_two_transfers_of_the_other() -> None:
    # Write 0-2 beside the first read; alone from 2 to 3, when it is done; the second read is alone.
    found = predict(
        *(fetch(0), write_back(1), update(2), update(3)),  # both lanes until 2
        *(release(0), release(1), fetch(0), release(0)),
    )
    assert found.step_s == 4.0
    assert (found.read_s, found.write_s) == (3.0, 3.0)
    assert found.exposed_io_s == 2.0


def test_transfers_in_one_lane_do_not_slow_each_other_down() -> None:
    found = predict(fetch(0), fetch(1), fetch(2), release(2))
    assert (found.step_s, found.read_s) == (3.0, 3.0)


def test_arithmetic_loses_time_to_bytes_that_move_beside_it() -> None:
    # During the second of the update a whole span is read, which costs it half a second.
    found = predict(fetch(1), update(0), release(1), machine=LOSING)
    assert (found.step_s, found.compute_s, found.exposed_io_s) == (1.5, 1.5, 0.0)
    # Two spans: the second one goes on while the loss is made up, and half a second after it.
    found = predict(fetch(1), fetch(2), update(0), release(2), machine=LOSING)
    assert (found.step_s, found.compute_s, found.exposed_io_s) == (2.0, 1.5, 0.5)


def test_arithmetic_loses_to_both_lanes_at_their_slower_rates() -> None:
    # In one second half a span is read and a quarter of one written: 0.25 s and 0.125 s.
    found = predict(fetch(1), write_back(2), update(0), machine=LOSING)
    assert found.compute_s == found.step_s == 1.375


def test_nothing_is_lost_while_arithmetic_waits() -> None:
    found = predict(fetch(0), release(0), update(1), machine=LOSING)
    assert (found.step_s, found.compute_s, found.exposed_io_s) == (2.0, 1.0, 1.0)


SPANS = st.integers(0, 1)
MOVES = st.one_of(st.builds(fetch, SPANS), st.builds(write_back, SPANS), st.builds(update, SPANS))
RATES = st.floats(0.25, 1)


@settings(deadline=None, max_examples=150)
@given(st.lists(MOVES, max_size=14), RATES, RATES, st.floats(0, 2))
def test_bytes_are_conserved_and_lanes_keep_their_rates(actions, read, write, loss) -> None:
    machine = replace(
        ALONE,
        read_beside_write_bytes_per_s=read * ALONE.read_bytes_per_s,
        write_beside_read_bytes_per_s=write * ALONE.write_bytes_per_s,
        compute_loss_s_per_byte=loss / STATE_BYTES,
    )
    found = predict(*actions, release(0), release(1), machine=machine)
    assert (found.bytes_read, found.bytes_written) == list_bytes(actions, LAYOUT)
    for moved, busy_s, alone, beside in (
        (found.bytes_read, found.read_s, machine.read_bytes_per_s, read),
        (found.bytes_written, found.write_s, machine.write_bytes_per_s, write),
    ):
        assert moved / alone <= busy_s * (1 + 1e-6)
        assert busy_s <= moved / (alone * beside) * (1 + 1e-6)
    assert found.step_s == pytest.approx(found.compute_s + found.exposed_io_s)
    updates = sum(isinstance(action, Update) for action in actions)
    moved_spans = (found.bytes_read + found.bytes_written) / STATE_BYTES
    assert updates <= found.compute_s * (1 + 1e-9)
    assert found.compute_s <= updates + loss * moved_spans + 1e-6
    assert found.step_s >= max(found.read_s, found.write_s) * (1 - 1e-6)


@pytest.mark.parametrize("lane", ["read_beside_write", "write_beside_read"])
def test_a_disk_that_shares_badly_makes_a_step_longer_and_moves_the_same(lane: str) -> None:
    one = make_candidate(make_decoder(), flops_per_s=5e12)
    least, most = range_bytes((one,))
    plan = choose((one,), least + (most - least) // 5, LANES).planned.plan
    layout = one.layout
    found = [
        simulate(
            plan.steady,
            layout,
            replace(LANES, **{f"{lane}_bytes_per_s": rate}),
            one.costs,
            repeats=True,
        )
        for rate in (9e8, 3e8)
    ]
    assert found[0].step_s < found[1].step_s
    assert found[0].bytes_read == found[1].bytes_read > 0
    assert found[0].bytes_written == found[1].bytes_written > 0
