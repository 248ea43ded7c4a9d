"""The chosen plan against all plans, and what a user fixed or a caller refuses."""

from dataclasses import replace
from itertools import pairwise

import pytest
from decoders import (
    FIXED_BYTES,
    LANES,
    Case,
    cases,
    make_candidate,
    make_decoder,
    plans_of,
    range_bytes,
)
from hypothesis import given, settings
from replay import lru_bytes

from outsize.plan.actions import Fetch, WriteBack
from outsize.plan.choose import (
    Candidate,
    Choice,
    choose,
    estimate,
    smallest_budget_bytes,
)
from outsize.plan.layout import role
from outsize.plan.residency import DoesNotFitError
from outsize.plan.schedule import train_step, uses
from outsize.plan.search import Objective
from outsize.plan.verify import verify_plan

OBJECTIVES: tuple[Objective, ...] = ("time", "memory", "writes")
MODEL = make_decoder(num_blocks=4)
CHOOSES = make_candidate(MODEL)
LEAST, MOST = range_bytes((CHOOSES,))
some_cases = settings(deadline=None, max_examples=4, derandomize=True)


def between(fraction: float) -> int:
    return int(LEAST + fraction * (MOST - LEAST))


def find(case: Case, objective: Objective = "time") -> Choice:
    return choose(case.candidates, case.budget_bytes, case.machine, objective)


def products_moved(choice: Choice) -> set[str]:
    plan = choice.planned.plan
    lists = (plan.prologue, plan.first, plan.steady, plan.commit, plan.flush)
    moved = (a for actions in lists for a in actions if isinstance(a, Fetch | WriteBack))
    return {action.region for action in moved if role(action.region) == "products"}


def forced(activations: str) -> Candidate:
    """The candidate of a user who fixed what the blocks do."""
    return make_candidate(
        MODEL,
        keeping_blocks=0 if activations == "recompute" else 4,
        pins_products=activations == "keep",
        chooses_keeping=False,
    )


@some_cases
@given(cases())
def test_the_chosen_step_is_about_the_fastest_of_all(case: Case) -> None:
    choice = find(case)
    verify_plan(choice.planned.plan, choice.candidate.layout)
    assert choice.host_bytes <= case.budget_bytes
    fastest_s = min(
        planned.prediction.step_s
        for one in case.candidates
        for planned in plans_of(one, case.budget_bytes, case.machine)
    )
    assert choice.planned.prediction.step_s <= 1.05 * fastest_s


@some_cases
@given(cases())
def test_the_fewest_writes_are_no_more_than_those_of_any_request(case: Case) -> None:
    written = find(case, "writes").planned.prediction.bytes_written
    assert written <= find(case, "time").planned.prediction.bytes_written
    forced_bytes = []
    for one in case.candidates:
        for keeping, pins in (
            (0, False),
            (one.layout.num_blocks, False),
            (one.layout.num_blocks, True),
        ):
            layout = replace(one.layout, keeping_blocks=keeping, pins_products=pins)
            fixed = replace(one, layout=layout, chooses_keeping=False)
            plans = plans_of(fixed, case.budget_bytes, case.machine, "writes")
            forced_bytes += [planned.prediction.bytes_written for planned in plans]
    assert written <= 1.05 * min(forced_bytes)


@settings(deadline=None, max_examples=3, derandomize=True)
@given(cases())
def test_the_least_memory_has_a_plan_and_less_has_none(case: Case) -> None:
    choice = find(case, "memory")
    verify_plan(choice.planned.plan, choice.candidate.layout)
    assert choice.host_bytes <= find(case).host_bytes
    least_bytes = smallest_budget_bytes(case.candidates)
    for objective in OBJECTIVES:
        assert choice.host_bytes <= find(case.at(least_bytes), objective).host_bytes <= least_bytes
    less_bytes = choice.host_bytes - choice.planned.plan.arena_bytes // 20
    for objective in OBJECTIVES:
        with pytest.raises(DoesNotFitError) as caught:
            find(case.at(less_bytes), objective)
        assert caught.value.needed_bytes > less_bytes
    with pytest.raises(DoesNotFitError) as caught:
        find(case.at(less_bytes), "memory")
    assert caught.value.needed_bytes == least_bytes


@pytest.mark.parametrize("activations", ["recompute", "offload", "keep"])
def test_what_the_user_fixed_stays_fixed(activations: str) -> None:
    one = forced(activations)
    least_bytes = smallest_budget_bytes((one,))
    budgets = [int(least_bytes + fraction * (MOST - least_bytes)) for fraction in (0.0, 0.3, 1.0)]
    asked = [("time", budget) for budget in budgets]
    for objective, budget_bytes in [*asked, ("memory", budgets[2]), ("writes", budgets[1])]:
        choice = choose((one,), budget_bytes, LANES, objective)
        assert choice.candidate is one
        assert activations == "offload" or products_moved(choice) == set()
    tight = choose((forced("offload"),), smallest_budget_bytes((forced("offload"),)), LANES)
    assert products_moved(tight)


def test_products_that_must_stay_are_refused_where_they_do_not_fit() -> None:
    one = forced("keep")
    products = [n for r, n in one.layout.region_bytes.items() if role(r) == "products"]
    for budget_bytes in (FIXED_BYTES + sum(products), smallest_budget_bytes((one,)) - 2**21):
        with pytest.raises(DoesNotFitError):
            choose((one,), budget_bytes, LANES)
        # The same blocks without that wish fit in it.
        assert products_moved(choose((forced("offload"),), budget_bytes, LANES))
    choice = choose((one,), smallest_budget_bytes((one,)), LANES)
    assert choice.planned.plan.arena_bytes > sum(products)


def test_a_shape_that_is_not_accepted_is_not_taken() -> None:
    one = make_candidate(MODEL, flops_per_s=1e11)
    free = choose((one,), MOST, LANES)
    assert free.candidate.layout.keeping_blocks == 4
    other = choose(
        (one,), MOST, LANES, accepts=lambda choice: choice.candidate.layout.keeping_blocks < 4
    )
    assert other.candidate.layout.keeping_blocks < 4


def test_where_the_smallest_plan_is_not_accepted_a_larger_one_is_looked_for() -> None:
    budget_bytes = between(0.5)
    smallest = choose((CHOOSES,), budget_bytes, LANES, "memory")
    most_written = smallest.planned.prediction.bytes_written * 3 // 4

    def writes_less(choice: Choice) -> bool:
        return choice.planned.prediction.bytes_written <= most_written

    other = choose((CHOOSES,), budget_bytes, LANES, "memory", writes_less)
    assert writes_less(other)
    assert smallest.host_bytes < other.host_bytes <= budget_bytes


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_where_none_is_accepted_one_that_fits_is_returned(objective: Objective) -> None:
    choice = choose((CHOOSES,), between(0.2), LANES, objective, lambda one: False)
    assert choice.host_bytes <= between(0.2)


@pytest.mark.parametrize("objective", ["time", "writes"])
@pytest.mark.parametrize("flops_per_s", [1e11, 3e12])
def test_more_memory_is_hardly_ever_worse(objective: Objective, flops_per_s: float) -> None:
    one = make_candidate(MODEL, flops_per_s=flops_per_s)
    found = [
        choose((one,), between(step / 6), LANES, objective).planned.prediction for step in range(7)
    ]
    for less, more in pairwise(found):
        if objective == "time":
            assert more.step_s <= 1.02 * less.step_s
        assert more.bytes_written <= 1.02 * less.bytes_written or objective == "time"
    assert found[-1].bytes_read == found[-1].bytes_written == 0 < found[0].bytes_written


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.7])
def test_a_plan_moves_no_more_than_with_lru(fraction: float) -> None:
    choice = choose((CHOOSES,), between(fraction), LANES)
    layout, planned = choice.candidate.layout, choice.planned
    slots = [uses(layout, action) for action in train_step(layout)]
    by_lru = lru_bytes(slots, layout.region_bytes, planned.plan.arena_bytes)
    moved = planned.prediction.bytes_read + planned.prediction.bytes_written
    assert 0 < moved <= by_lru


def test_of_equally_good_shapes_the_first_is_taken() -> None:
    same = replace(CHOOSES, costs=dict(CHOOSES.costs))
    for first, second in ((CHOOSES, same), (same, CHOOSES)):
        choice = choose((first, second), MOST, LANES)
        assert choice.candidate.costs is first.costs


def test_a_shape_that_does_not_fit_leaves_its_place_to_one_that_does() -> None:
    large = make_candidate(MODEL, micro_batch_rows=4, seq_length=2048)
    small = make_candidate(MODEL, micro_batch_rows=1, seq_length=2048)
    budget_bytes = smallest_budget_bytes((small,)) + 2**20
    assert budget_bytes < smallest_budget_bytes((large,))
    choice = choose((large, small), budget_bytes, LANES)
    assert choice.candidate.layout.workload.micro_batch_rows == 1
    assert smallest_budget_bytes((large, small)) == smallest_budget_bytes((small,))


@pytest.mark.parametrize("fraction", [0.1, 0.4, 1.0])
def test_an_estimate_is_about_what_is_found(fraction: float) -> None:
    found = estimate((CHOOSES,), between(fraction), LANES)
    assert found is not None
    step_s = choose((CHOOSES,), between(fraction), LANES).planned.prediction.step_s
    assert found.prediction.step_s == pytest.approx(step_s, rel=0.1)
    assert estimate((CHOOSES,), FIXED_BYTES, LANES) is None
