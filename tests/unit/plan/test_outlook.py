"""What more of something buys, and the best plans at growing budgets."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from decoders import FIXED_BYTES, LANES, cases, make_candidate, make_decoder, range_bytes
from hypothesis import given, settings

from outsize.plan.choose import Candidate, Choice, choose, smallest_budget_bytes
from outsize.plan.outlook import MORE_DISK_BYTES_PER_S, everything_bytes, frontier, gains
from outsize.plan.search import Objective
from outsize.plan.verify import verify_plan
from outsize.spec.machine import Lanes

MODEL = make_decoder(num_blocks=3)
ONE = make_candidate(MODEL, flops_per_s=3e12)
LEAST, MOST = range_bytes((ONE,))
CHANGES = ["1 GiB more memory", "1 GB/s more disk, each way", "twice the tokens a step"]


def speedups(
    one: Candidate, budget_bytes: int, machine: Lanes = LANES, objective: Objective = "time"
) -> list[float | None]:
    found = gains(one, budget_bytes, machine, objective)
    assert [gain.change for gain in found] == CHANGES
    return [gain.speedup for gain in found]


def points(
    one: Candidate, most_bytes: int = 2**40, objective: Objective = "time"
) -> list[tuple[int, Choice]]:
    return list(walk(one, most_bytes, objective, lambda done: None))


def walk(
    one: Candidate, most_bytes: int, objective: Objective, on_point: Callable[[int], None]
) -> Iterator[tuple[int, Choice]]:
    def plan(budget_bytes: int) -> Choice:
        return choose((one,), budget_bytes, LANES, objective)

    last_bytes = min(most_bytes, everything_bytes(one))
    return frontier(plan, smallest_budget_bytes((one,)), last_bytes, on_point)


@settings(deadline=None, max_examples=6, derandomize=True)
@given(cases())
def test_more_of_anything_is_never_slower(case) -> None:
    one = case.candidates[0]
    memory, disk, tokens = speedups(one, case.budget_bytes, case.machine)
    if case.budget_bytes < smallest_budget_bytes((one,)):
        return
    assert memory is not None
    assert memory >= 0.99
    assert disk is not None
    assert disk >= 0.99
    assert tokens is None or tokens > 0.5


def test_a_step_that_waits_for_the_disk_gains_by_memory_and_disk() -> None:
    slow = replace(
        LANES,
        read_bytes_per_s=1e8,
        write_bytes_per_s=1e8,
        read_beside_write_bytes_per_s=6e7,
        write_beside_read_bytes_per_s=6e7,
    )
    memory, disk, tokens = speedups(ONE, LEAST + (MOST - LEAST) // 5, slow)
    assert memory is not None
    assert disk is not None
    assert tokens is not None
    assert memory > 2
    # Eleven times the rate: at most eleven times as fast.
    assert 2 < disk <= (1e8 + MORE_DISK_BYTES_PER_S) / 1e8 * 1.01
    assert 1 < tokens < 2.01  # the weights move once for twice the tokens


def test_where_everything_stays_neither_memory_nor_disk_buys_anything() -> None:
    memory, disk, tokens = speedups(ONE, 2 * MOST)
    assert memory == disk == 1.0
    assert tokens is not None
    assert tokens >= 1.0


def test_near_the_smallest_budget_more_of_something_is_worth_something() -> None:
    for more_bytes in (0, 2**20, 4 * 2**20):
        memory, disk, _ = speedups(ONE, LEAST + more_bytes)
        assert memory is not None
        assert disk is not None
        assert min(memory, disk) >= 0.99


def test_what_does_not_fit_has_no_speedup() -> None:
    assert speedups(ONE, FIXED_BYTES) == [None, None, None]


@pytest.mark.parametrize("objective", ["time", "memory", "writes"])
def test_the_frontier_goes_from_the_smallest_budget_to_everything(objective: Objective) -> None:
    found = points(ONE, objective=objective)
    budgets = [budget for budget, _ in found]
    assert all(less < more for less, more in pairwise(budgets))
    assert budgets[0] == smallest_budget_bytes((ONE,))
    assert budgets[-1] == everything_bytes(ONE)
    assert 6 <= len(found) <= 8
    for budget_bytes, choice in found:
        assert choice.host_bytes <= budget_bytes
        verify_plan(choice.planned.plan, choice.candidate.layout)
    if objective == "time":
        last = found[-1][1].planned.prediction
        assert last.bytes_read == last.bytes_written == 0
        times = [choice.planned.prediction.step_s for _, choice in found]
        assert all(more <= 1.02 * less for less, more in pairwise(times))
        assert times[-1] < times[0]


def test_the_frontier_ends_at_the_memory_of_interest() -> None:
    most_bytes = (LEAST + MOST) // 2
    budgets = [budget for budget, _ in points(ONE, most_bytes)]
    assert budgets[0] == LEAST
    assert budgets[-1] == most_bytes


def test_a_machine_too_small_for_any_plan_has_one_point() -> None:
    ((budget_bytes, choice),) = points(ONE, LEAST // 2)
    assert budget_bytes == LEAST
    assert choice.host_bytes <= LEAST


def test_each_point_is_announced_before_it_is_planned() -> None:
    told: list[int] = []
    found = walk(ONE, MOST, "time", told.append)
    next(found)
    assert told == [0]
    assert len(list(found)) == 7
    assert told == list(range(8))


def test_everything_is_what_a_plan_holds_that_moves_nothing() -> None:
    fixed = replace(ONE, chooses_keeping=False)
    for one in (fixed, ONE):
        bytes_of_regions = sum(ONE.layout.region_bytes.values())
        most = everything_bytes(one)
        choice = choose((one,), most, LANES)
        assert choice.host_bytes <= most
        assert choice.planned.prediction.bytes_read + choice.planned.prediction.bytes_written == 0
        assert most > FIXED_BYTES
        assert most <= FIXED_BYTES + 3 * bytes_of_regions
    assert everything_bytes(ONE) >= everything_bytes(fixed)
