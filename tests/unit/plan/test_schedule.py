"""The arithmetic of a step in its order, and what each action touches."""

import pytest
from hypothesis import given, settings
from small_models import layouts, least_bytes, make_layout

from outsize.plan import layout as names
from outsize.plan.actions import Compute, Update
from outsize.plan.schedule import Use, evaluate_step, train_step, uses
from outsize.quantities import align_up
from outsize.spec.tensor import PAGE_BYTES


def test_a_step_of_one_block_in_full():
    layout = make_layout(num_blocks=1, span_elements=1024, num_micro_batches=2)
    assert train_step(layout) == (
        *(Update(0, 0, "optimizer"), Update(0, 1, "optimizer")),
        Compute(0, "forward", 0),
        *(Compute(0, "forward", 1), Update(1, 0, "optimizer")),
        Compute(1, "forward", 0),
        *(Compute(1, "forward", 1), Update(2, 0, "optimizer")),
        *(Compute(2, "backward", 0), Compute(2, "backward", 1), Compute(2, "gradient_norm", 0)),
        *(Compute(1, "backward", 0), Compute(1, "backward", 1), Compute(1, "gradient_norm", 0)),
        *(Compute(0, "backward", 0), Compute(0, "backward", 1), Compute(0, "gradient_norm", 0)),
    )


def test_an_evaluation_derives_weights_and_ends_with_losses():
    layout = make_layout(num_blocks=0, span_elements=2**20, num_micro_batches=2)
    assert evaluate_step(layout) == (
        *(Update(0, 0, "derive"), Compute(0, "evaluate", 0), Compute(0, "evaluate", 1)),
        *(Update(1, 0, "derive"), Compute(1, "evaluate", 0), Compute(1, "evaluate", 1)),
    )


def test_without_clipping_no_norm_is_taken():
    work = train_step(make_layout(clip=False))
    assert not any(isinstance(a, Compute) and a.phase == "gradient_norm" for a in work)


def test_a_head_without_parameters_has_neither_update_nor_norm():
    layout = make_layout(num_blocks=1, norms=False, tied=True)
    of_head = [a for a in train_step(layout) if a.layer == 2]
    assert of_head == [Compute(2, "backward", 0), Compute(2, "backward", 1)]


@settings(deadline=None, max_examples=60)
@given(layouts())
def test_updates_come_before_the_layer_runs_and_every_span_has_one(layout):
    updated: set[tuple[int, int]] = set()
    for action in train_step(layout):
        if isinstance(action, Update):
            assert (action.layer, action.span) not in updated
            updated.add((action.layer, action.span))
        else:
            spans = layout.layers[action.layer].num_spans
            assert {(action.layer, span) for span in range(spans)} <= updated
    assert len(updated) == sum(own.num_spans for own in layout.layers)


@settings(deadline=None, max_examples=60)
@given(layouts())
def test_actions_touch_regions_that_exist_once_each(layout):
    for action in (*train_step(layout), *evaluate_step(layout)):
        touched = [use.region for use in uses(layout, action)]
        assert len(touched) == len(set(touched)), action
        assert set(touched) <= layout.region_bytes.keys(), action


@settings(deadline=None, max_examples=60)
@given(layouts())
def test_what_is_read_was_made_by_this_step_or_is_kept_between_steps(layout):
    made: set[str] = set()
    for action in train_step(layout):
        for use in uses(layout, action):
            kept = names.is_durable(use.region) or (
                use.region.startswith("gradient/") and isinstance(action, Update)
            )
            assert use.mode == "write" or kept or use.region in made, (action, use)
        made |= {use.region for use in uses(layout, action) if use.mode != "read"}


def test_a_tied_head_adds_to_the_gradient_of_the_embedding():
    layout = make_layout(num_blocks=1, tied=True)
    first, second = (uses(layout, Compute(2, "backward", m)) for m in (0, 1))
    assert Use("gradient/0", "write") in first
    assert Use("gradient/0", "modify") in second
    assert Use("weights/0", "read") in first
    assert Use("gradient/0", "modify") in uses(layout, Compute(0, "backward", 0))
    assert Use("tied_rows/1", "read") in uses(layout, Compute(0, "backward", 1))


@pytest.mark.parametrize("role", ["attention", "products"])
def test_costly_results_are_kept_for_the_backward_of_blocks_only(role):
    layout = make_layout(num_blocks=1, attention_heads=1, keeping_blocks=1)
    assert Use(f"{role}/1/0", "write") in uses(layout, Compute(1, "forward", 0))
    assert Use(f"{role}/1/0", "read") in uses(layout, Compute(1, "backward", 0))
    others = [a for a in train_step(layout) if a.layer != 1]
    assert not any(role in use.region for a in others for use in uses(layout, a))


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_an_evaluation_keeps_nothing_for_a_backward(layout):
    touched = {use.region for action in evaluate_step(layout) for use in uses(layout, action)}
    allowed = {"state", "weights", "boundary", "base", "unpacked"}
    assert {region.partition("/")[0] for region in touched} <= allowed


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_every_arena_holds_a_layer_in_fp32_beside_a_span_of_state(layout):
    """Fresh weights are drawn there."""
    sizes = layout.region_bytes
    largest = align_up(4 * max(layer.num_elements for layer in layout.layers), PAGE_BYTES)
    span_bytes = max(size for region, size in sizes.items() if names.role(region) == "state")
    assert least_bytes(layout) >= largest + span_bytes


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_every_arena_holds_frozen_weights_as_they_are_imported(layout):
    """As they rest beside what they unpack to; and what they unpack to beside fresh adapters."""
    arena_bytes, sizes = least_bytes(layout), layout.region_bytes
    for index, own in enumerate(layout.layers):
        resting = sizes.get(names.base(index), 0)
        run = sizes.get(names.unpacked(index), resting)
        fresh = align_up(4 * own.num_elements, PAGE_BYTES)
        assert arena_bytes >= run + fresh
        assert arena_bytes >= resting + sizes.get(names.unpacked(index), 0)
