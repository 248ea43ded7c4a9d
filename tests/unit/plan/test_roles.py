"""What a plan's arena holds when it is fullest, and what becomes of the blocks' products."""

import pytest
from decoders import LANES, cases, make_candidate, make_decoder, range_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import layouts, make_layout

from outsize.plan.actions import Acquire, Compute, Fetch, Release, Update, WriteBack
from outsize.plan.choose import Choice, choose
from outsize.plan.layout import products
from outsize.plan.roles import Activations, activations, peak_by_role, prefetch_bytes

PAGE = 4096
LAYOUT = make_layout(num_blocks=2, vocab=128, num_micro_batches=1, keeping_blocks=2, seq_length=100)
SIZES = LAYOUT.region_bytes
ONE = make_candidate(make_decoder(num_blocks=3))
LEAST, MOST = range_bytes((ONE,))


def acquire(region: str) -> Acquire:
    return Acquire(region, "host", 0)


def fetch(region: str) -> Fetch:
    return Fetch(region, "disk", "host", 0)


def release(region: str) -> Release:
    return Release(region, "host")


def roles_of(choice: Choice, tier: str = "host") -> dict[str, int]:
    plan = choice.planned.plan
    actions = (*plan.prologue, *plan.steady)
    return peak_by_role(actions, choice.candidate.layout, plan.arena_bytes, tier)


def test_the_fullest_moment_is_told_by_role() -> None:
    actions = (
        acquire("weights/0"),
        fetch("state/0/0"),
        release("weights/0"),
        acquire("gradient/0"),
        acquire("boundary/1/0"),
        acquire("boundary_gradient/0"),
        acquire("products/1/0"),
        acquire("norm_copy/0"),
        release("state/0/0"),
        acquire("weights/1"),
    )
    held = SIZES["state/0/0"], SIZES["gradient/0"], SIZES["boundary/1/0"], SIZES["norm_copy/0"]
    most = sum(held) + SIZES["boundary_gradient/0"] + SIZES["products/1/0"]
    assert peak_by_role(actions, LAYOUT, most + 5 * PAGE) == {
        "optimizer state": held[0],
        "gradients": held[1],
        "boundary activations": held[2] + SIZES["boundary_gradient/0"],
        "saved activations": SIZES["products/1/0"],
        "gradient work space": held[3],
        "gaps": 5 * PAGE,
    }


def test_each_tier_has_a_fullest_moment_of_its_own() -> None:
    actions = (
        acquire("weights/1"),
        Acquire("boundary/1/0", "device", 0),
        Fetch("weights/1", "host", "device", 0),
        release("weights/1"),
        acquire("weights/2"),
    )
    on_host = {"weights": SIZES["weights/1"], "gaps": 0}
    assert peak_by_role(actions, LAYOUT, SIZES["weights/1"]) == on_host
    both = SIZES["boundary/1/0"] + SIZES["weights/1"]
    assert peak_by_role(actions, LAYOUT, both, "device") == {
        "boundary activations": SIZES["boundary/1/0"],
        "weights": SIZES["weights/1"],
        "gaps": 0,
    }


def test_nothing_held_is_all_gap() -> None:
    assert peak_by_role((), LAYOUT, PAGE) == {"gaps": PAGE}


@settings(deadline=None, max_examples=5, derandomize=True)
@given(cases())
def test_roles_and_gaps_add_up_to_the_arena(case) -> None:
    choice = choose(case.candidates, case.budget_bytes, case.machine)
    layout, plan = choice.candidate.layout, choice.planned.plan
    found = roles_of(choice)
    assert sum(found.values()) == plan.arena_bytes
    assert all(size >= 0 for size in found.values())
    assert found["weights"] > 0
    counts = activations(plan.steady, layout)
    assert counts.kept + counts.offloaded + counts.recomputed == layout.num_blocks
    assert counts.recomputed == layout.num_blocks - layout.keeping_blocks
    assert 0 <= prefetch_bytes(plan.steady, layout) <= plan.arena_bytes


def test_products_that_are_written_are_offloaded_and_the_others_kept() -> None:
    layout = make_layout(num_blocks=3, keeping_blocks=2, num_micro_batches=2)
    steady = (acquire(products(2, 0)), acquire(products(3, 1)))
    assert activations(steady, layout) == Activations(kept=2, offloaded=0, recomputed=1)
    one = (*steady, WriteBack(products(3, 1), "host", "disk"))
    assert activations(one, layout) == Activations(kept=1, offloaded=1, recomputed=1)
    all_of_it = (*one, *(WriteBack(products(2, m), "host", "disk") for m in (0, 1)))
    assert activations(all_of_it, layout) == Activations(kept=0, offloaded=2, recomputed=1)


@settings(deadline=None, max_examples=60)
@given(layouts(), st.data())
def test_every_block_counts_once(layout, data) -> None:
    regions = sorted(r for r in layout.region_bytes if r.startswith("products/"))
    written = data.draw(st.sets(st.sampled_from(regions))) if regions else set()
    steady = [WriteBack(region, "host", "disk") for region in written]
    found = activations(steady, layout)
    assert found.kept + found.offloaded + found.recomputed == layout.num_blocks
    assert found.offloaded == len({region.split("/")[1] for region in written})
    assert found.kept == len({region.split("/")[1] for region in regions}) - found.offloaded


@pytest.mark.parametrize(
    ("keeping", "fraction", "expected"),
    [
        (0, 1.0, Activations(kept=0, offloaded=0, recomputed=3)),
        (3, 1.0, Activations(kept=3, offloaded=0, recomputed=0)),
        (3, 0.0, Activations(kept=0, offloaded=3, recomputed=0)),
    ],
)
def test_what_a_plan_does_with_its_products(keeping, fraction, expected) -> None:
    one = make_candidate(
        make_decoder(num_blocks=3), keeping_blocks=keeping, chooses_keeping=False, seq_length=1024
    )
    least, most = range_bytes((one,))
    choice = choose((one,), int(least + fraction * (most - least)), LANES)
    assert activations(choice.planned.plan.steady, one.layout) == expected


def test_what_is_read_ahead_is_what_no_action_has_needed_yet() -> None:
    state, other = SIZES["state/0/0"], SIZES["weights/0"]
    ahead = (
        fetch("state/0/0"),
        fetch("weights/0"),
        fetch("gradient/0"),
        Update(0, 0, "optimizer"),
        fetch("boundary/1/0"),
        Compute(1, "forward", 0),
    )
    assert prefetch_bytes(ahead, LAYOUT) == state + other + SIZES["gradient/0"]
    late = (fetch("state/0/0"), Update(0, 0, "optimizer"), fetch("weights/1"))
    # The second round reads the state while the weights of the first are still unused.
    assert prefetch_bytes(late, LAYOUT) == SIZES["weights/1"] + state
    assert prefetch_bytes((Update(0, 0, "optimizer"),), LAYOUT) == 0


def test_a_plan_that_holds_everything_reads_nothing_ahead() -> None:
    choice = choose((ONE,), MOST, LANES)
    assert prefetch_bytes(choice.planned.plan.steady, choice.candidate.layout) == 0
    tight = choose((ONE,), LEAST + (MOST - LEAST) // 4, LANES)
    assert prefetch_bytes(tight.planned.plan.steady, tight.candidate.layout) > 0
