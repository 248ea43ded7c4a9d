"""How an arena is divided: spread state, the estimate without gaps, the smallest arena."""

from dataclasses import replace

import pytest
from decoders import LANES, make_candidate, make_decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import layouts, least_bytes, make_layout

from outsize.plan.layout import Layout, is_durable, role
from outsize.plan.level import RESIDENT_ONLY, Level, Split
from outsize.plan.memory import peak_bytes
from outsize.plan.residency import DoesNotFitError, Stay, moved_bytes
from outsize.plan.schedule import train_step, uses
from outsize.plan.search import estimate_train_step, plan_train_step, smallest_arena_bytes
from outsize.plan.simulate import Costs
from outsize.spec.machine import LayerCost

PAGE = 4096
ONE = make_candidate(make_decoder(num_blocks=4))
LAYOUT = ONE.layout
SPLITS = st.builds(Split, st.sampled_from([0.0, 0.1, 0.3]), st.booleans())


def level_of(layout: Layout) -> Level:
    work = train_step(layout)
    return Level(layout, work, [uses(layout, action) for action in work])


def streamed_state(stays: tuple[Stay, ...]) -> set[str]:
    """State that comes from below in every step."""
    return {s.region for s in stays if s.fetch and not s.permanent and is_durable(s.region)}


def some_costs(layout: Layout) -> Costs:
    cost = LayerCost(forward_s=1e-4, backward_s=2e-4)
    return {(s.signature, keeps): cost for s in layout.model.layers for keeps in (False, True)}


@settings(deadline=None, max_examples=60)
@given(layouts(), st.booleans(), SPLITS, st.floats(1, 4))
def test_stays_hold_no_more_than_the_room(layout, pins, split, factor) -> None:
    layout = replace(layout, pins_products=pins)
    level = level_of(layout)
    room_bytes = int(factor * level.least_bytes)
    assert level.least_bytes == least_bytes(layout)
    try:
        stays = level.stays(room_bytes, split)
    except DoesNotFitError as error:
        assert error.needed_bytes > room_bytes  # noqa: PT017 -- both are right
        return
    assert peak_bytes(stays, len(level.work)) <= room_bytes


def test_less_than_the_largest_action_is_refused_with_what_it_needs() -> None:
    level = level_of(LAYOUT)
    for split in (RESIDENT_ONLY, Split(0.3, True)):
        for ask in (level.stays, level.fit):
            with pytest.raises(DoesNotFitError) as caught:
                ask(level.least_bytes - PAGE, split)
            assert caught.value.needed_bytes == level.least_bytes
            assert caught.value.tier == "host"


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 6])
def test_state_that_stays_is_spread_evenly_over_the_step(factor: int) -> None:
    level = level_of(LAYOUT)
    room_bytes = factor * level.least_bytes
    grouped, spread = (level.stays(room_bytes, Split(0.0, flag)) for flag in (False, True))
    streamed = streamed_state(spread)
    assert len(streamed) == len(streamed_state(grouped)) > 0
    used = (use.region for action in level.work for use in uses(LAYOUT, action))
    durable = list(dict.fromkeys(region for region in used if is_durable(region)))
    num_kept = len(durable) - len(streamed)
    for count in range(len(durable) + 1):
        kept = [region for region in durable[:count] if region not in streamed]
        assert abs(len(kept) - count * num_kept / len(durable)) <= 1
    # Spans are not all of one size, so what stays is not always the same number of bytes.
    assert sum(moved_bytes(spread)) <= 1.2 * sum(moved_bytes(grouped))


def test_a_reserve_leaves_room_that_transfers_in_flight_take() -> None:
    level = level_of(LAYOUT)
    room_bytes = 4 * level.least_bytes
    resident_only = level.stays(room_bytes, RESIDENT_ONLY)
    reserving = level.stays(room_bytes, Split(0.3, False))
    assert sum(moved_bytes(resident_only)) < sum(moved_bytes(reserving))
    early = [sum(s.first - s.start for s in stays) for stays in (resident_only, reserving)]
    assert early[0] < early[1]


def test_the_estimate_is_no_slower_than_a_plan_with_its_gaps() -> None:
    """It may hold what a real plan has no place for; `choose` takes the gaps off before it asks."""
    for factor in (1.5, 2, 4, 8):
        arena_bytes = int(factor * least_bytes(LAYOUT)) // PAGE * PAGE
        hopeful = estimate_train_step(LAYOUT, arena_bytes, LANES, ONE.costs)
        planned = plan_train_step(LAYOUT, arena_bytes, LANES, ONE.costs).prediction
        assert planned.step_s * 0.85 <= hopeful.step_s <= planned.step_s * 1.05
        assert hopeful.compute_s <= hopeful.step_s
    with pytest.raises(DoesNotFitError) as caught:
        estimate_train_step(LAYOUT, least_bytes(LAYOUT) - PAGE, LANES, ONE.costs)
    assert caught.value.needed_bytes == least_bytes(LAYOUT)


@settings(deadline=None, max_examples=30)
@given(layouts())
def test_the_smallest_arena_is_enough(layout) -> None:
    size_bytes = smallest_arena_bytes(layout)
    assert size_bytes % PAGE == 0
    assert least_bytes(layout) <= size_bytes <= 2 * least_bytes(layout) + 2**21
    assert (
        plan_train_step(layout, size_bytes, LANES, some_costs(layout)).plan.arena_bytes
        <= size_bytes
    )


@pytest.mark.parametrize("pins", [False, True])
def test_the_smallest_arena_is_found_to_the_asked_precision(pins: bool) -> None:
    layout = make_candidate(
        make_decoder(num_blocks=4), keeping_blocks=4, pins_products=pins, micro_batch_rows=1
    ).layout
    exact = smallest_arena_bytes(layout, PAGE)
    assert exact <= smallest_arena_bytes(layout) <= exact + 2**20 + PAGE
    pinned = sum(n for r, n in layout.region_bytes.items() if role(r) == "products")
    assert (exact > pinned) is pins
    with pytest.raises(DoesNotFitError) as caught:
        plan_train_step(layout, exact - 4 * PAGE, LANES, ONE.costs)
    assert caught.value.needed_bytes > exact - 4 * PAGE


@pytest.mark.parametrize("factor", [1.0, 1.1, 1.3, 1.6])
def test_what_is_said_to_be_needed_is_more_than_there_is(factor: float) -> None:
    """Splits that reserve room, and rooms that gaps have made smaller, need more than they say."""
    small = make_layout(num_blocks=6, hidden=96, vocab=200, seq_length=100, keeping_blocks=6)
    layout = replace(small, pins_products=True)
    arena_bytes = int(factor * least_bytes(layout)) // PAGE * PAGE
    assert arena_bytes < smallest_arena_bytes(layout, PAGE)
    with pytest.raises(DoesNotFitError) as caught:
        plan_train_step(layout, arena_bytes, LANES, some_costs(layout))
    assert caught.value.needed_bytes > arena_bytes
