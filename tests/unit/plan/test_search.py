"""The whole search on random models, workloads and arenas."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import MACHINE, costs, layouts, least_bytes, make_layout

from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.plan.search import PlannedStep, plan_evaluation, plan_train_step
from outsize.plan.simulate import simulate
from outsize.plan.verify import verify_pass, verify_plan

PAGE = 4096


def plan(layout: Layout, arena_bytes: int) -> PlannedStep:
    return plan_train_step(layout, arena_bytes, MACHINE, costs(layout))


def moved_bytes(planned: PlannedStep) -> int:
    return planned.prediction.bytes_read + planned.prediction.bytes_written


def some_arena(layout: Layout, fraction: float) -> int:
    least, total = 3 * least_bytes(layout) // 2, sum(layout.region_bytes.values())
    return int(least + fraction * max(0, total - least)) // PAGE * PAGE


@settings(deadline=None, max_examples=60)
@given(layouts(), st.floats(0, 1))
def test_every_plan_fits_its_arena_and_is_verified(layout, fraction):
    arena_bytes = some_arena(layout, fraction)
    planned = plan(layout, arena_bytes)
    assert least_bytes(layout) <= planned.plan.arena_bytes <= arena_bytes
    verify_plan(planned.plan, layout)
    again = simulate(planned.plan.steady, layout, MACHINE, costs(layout), repeats=True)
    assert planned.prediction == again


@settings(deadline=None, max_examples=60)
@given(layouts())
def test_the_smallest_arena_either_fits_or_says_more_is_needed(layout):
    arena_bytes = least_bytes(layout)
    try:
        found_bytes = plan(layout, arena_bytes).plan.arena_bytes
    except DoesNotFitError as error:
        found_bytes = error.needed_bytes
        assert_fits_or_grows(layout, found_bytes)
    assert found_bytes >= arena_bytes


def assert_fits_or_grows(layout: Layout, needed_bytes: int) -> None:
    """What was said to be needed is either enough, or more is said to be needed then."""
    try:
        plan(layout, needed_bytes)
    except DoesNotFitError as error:
        assert error.needed_bytes > needed_bytes  # noqa: PT017 -- both ends are right


@settings(deadline=None, max_examples=60)
@given(layouts())
def test_less_than_the_largest_action_never_fits(layout):
    with pytest.raises(DoesNotFitError) as caught:
        plan(layout, least_bytes(layout) - PAGE)
    assert caught.value.needed_bytes >= least_bytes(layout)


@settings(deadline=None, max_examples=40)
@given(layouts(), st.floats(0, 1))
def test_what_a_step_fits_in_an_evaluation_fits_in_too(layout, fraction):
    arena_bytes = plan(layout, some_arena(layout, fraction)).plan.arena_bytes
    actions = plan_evaluation(layout, arena_bytes)
    assert actions
    work = [a for a in actions if type(a).__name__ in ("Compute", "Update")]
    verify_pass(actions, layout, arena_bytes, work)


@settings(deadline=None, max_examples=40)
@given(layouts())
def test_with_room_for_everything_nothing_moves(layout):
    planned = plan(layout, sum(layout.region_bytes.values()))
    assert moved_bytes(planned) == 0
    assert planned.prediction.exposed_io_s == 0.0


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("forward_s", [1e-6, 1e-4, 1e-2])
def test_more_room_is_never_slower_nor_moves_more_for_nothing(tied, clip, forward_s):
    # Greedy placement leaves gaps, so the search is monotone only up to 2 % of the time.
    layout = make_layout(num_blocks=4, hidden=96, vocab=200, seq_length=100, tied=tied, clip=clip)
    machine_costs = costs(layout, forward_s)
    found = [
        plan_train_step(layout, some_arena(layout, step / 6), MACHINE, machine_costs)
        for step in range(7)
    ]
    for less, more in pairwise(found):
        assert more.prediction.step_s <= 1.02 * less.prediction.step_s
        if more.prediction.step_s > 0.995 * less.prediction.step_s:
            assert moved_bytes(more) <= moved_bytes(less)
    assert moved_bytes(found[-1]) == 0 < moved_bytes(found[0])


def test_of_equally_fast_plans_the_one_that_moves_least_is_taken():
    layout = make_layout(num_blocks=4, hidden=96, vocab=200, seq_length=100)
    arena_bytes = some_arena(layout, 0.4)
    fast_disk = replace(MACHINE, read_bytes_per_s=1e15, write_bytes_per_s=1e15)
    slow_disk = replace(MACHINE, read_bytes_per_s=2e8, write_bytes_per_s=1e8)
    search = partial(plan_train_step, layout, arena_bytes, costs=costs(layout, 1e-5))
    calm, busy = search(machine=fast_disk), search(machine=slow_disk)
    assert calm.prediction.exposed_io_s <= 0.005 * calm.prediction.step_s
    assert moved_bytes(calm) <= moved_bytes(busy)


@pytest.mark.parametrize("num_blocks", [0, 1])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("span_elements", [1, 2**50])
def test_corner_cases_can_be_planned(num_blocks, tied, span_elements):
    layout = make_layout(
        span_elements, num_blocks=num_blocks, hidden=4, vocab=3, tied=tied, norms=False,
        num_micro_batches=1, seq_length=1,
    )  # fmt: skip
    for fraction in (0.0, 0.5, 1.0):
        verify_plan(plan(layout, some_arena(layout, fraction)).plan, layout)
    assert layout.layers[0].num_spans == (32 if span_elements == 1 else 1)
