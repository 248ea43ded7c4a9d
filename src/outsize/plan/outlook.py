"""What other amounts of memory, disk rate and tokens would give: the frontier, and what one more of
each would buy. Every number comes from planning again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from outsize.plan.choose import Candidate, choose, estimate
from outsize.plan.residency import DoesNotFitError
from outsize.plan.search import Objective, whole_arena_bytes
from outsize.spec.machine import Lanes

Planned = TypeVar("Planned")

MORE_MEMORY_BYTES = 2**30
MORE_DISK_BYTES_PER_S = 1e9
NUM_POINTS = 8
"""Points of a frontier, the smallest budget and the one that holds everything among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What one change would buy.

    Attributes:
        change: the change in words.
        speedup: tokens a second with it over tokens a second without; None when it does not fit.
    """

    change: str
    speedup: float | None


def gains(
    chosen: Candidate, budget_bytes: int, machine: Lanes, objective: Objective
) -> tuple[Gain, ...]:
    """Return what one more GiB of memory, one more GB/s of disk each way, and twice the tokens a
    step would buy.

    Args:
        chosen: the shape that was chosen; besides it, the one whose blocks all keep their products
            is tried.
        budget_bytes: host budget of the whole process.
        machine: rates.
        objective: what is best.
    """
    candidates = [replace(chosen, chooses_keeping=False)]
    if chosen.chooses_keeping and chosen.layout.keeping_blocks < chosen.layout.num_blocks:
        layout = replace(chosen.layout, keeping_blocks=chosen.layout.num_blocks)
        candidates.append(replace(candidates[0], layout=layout))
    base = _tokens_per_s(candidates, budget_bytes, machine, objective)
    changes = (
        ("1 GiB more memory", candidates, budget_bytes + MORE_MEMORY_BYTES, machine),
        ("1 GB/s more disk, each way", candidates, budget_bytes, _faster_disk(machine)),
        ("twice the tokens a step", _twice_tokens(candidates), budget_bytes, machine),
    )
    found = []
    for change, shapes, memory_bytes, rates in changes:
        rate = _tokens_per_s(shapes, memory_bytes, rates, objective)
        speedup = rate / base if rate is not None and base is not None else None
        found.append(Gain(change=change, speedup=speedup))
    return tuple(found)


def frontier(
    plan: Callable[[int], Planned],
    least_bytes: int,
    most_bytes: int,
    on_point: Callable[[int], None],
) -> Iterator[tuple[int, Planned]]:
    """Yield what `plan` finds at growing host budgets.

    Args:
        plan: gives the best plan for a budget; raises `DoesNotFitError` where there is none.
        least_bytes: the first budget.
        most_bytes: the last one, if that is more.
        on_point: told before each point how many of `NUM_POINTS` are done.
    """
    factor = (max(least_bytes, most_bytes) / least_bytes) ** (1 / (NUM_POINTS - 1))
    for index in range(NUM_POINTS):
        on_point(index)
        budget_bytes = round(least_bytes * factor**index)
        try:
            yield budget_bytes, plan(budget_bytes)
        except DoesNotFitError:
            continue
        if factor == 1:
            return


def everything_bytes(one: Candidate) -> int:
    """Return the host budget from which on nothing of a candidate's step has to move."""
    layout = one.layout
    if one.chooses_keeping:
        layout = replace(layout, keeping_blocks=layout.num_blocks)
    return one.fixed_bytes + whole_arena_bytes(layout)


def _tokens_per_s(
    candidates: Sequence[Candidate], budget_bytes: int, machine: Lanes, objective: Objective
) -> float | None:
    """Return the rate of the best plan, about; None when there is none."""
    found = estimate(candidates, budget_bytes, machine, objective)
    if found is not None:
        tokens = found.candidate.layout.workload.tokens_per_step
        return tokens / found.prediction.step_s
    try:  # near the smallest budget a plan may fit that has fewer gaps than an estimate allows for
        choice = choose(candidates, budget_bytes, machine, objective)
    except DoesNotFitError:
        return None
    tokens = choice.candidate.layout.workload.tokens_per_step
    return tokens / choice.planned.prediction.step_s


def _faster_disk(machine: Lanes) -> Lanes:
    read_factor = 1 + MORE_DISK_BYTES_PER_S / machine.read_bytes_per_s
    write_factor = 1 + MORE_DISK_BYTES_PER_S / machine.write_bytes_per_s
    return replace(
        machine,
        read_bytes_per_s=machine.read_bytes_per_s * read_factor,
        read_beside_write_bytes_per_s=machine.read_beside_write_bytes_per_s * read_factor,
        write_bytes_per_s=machine.write_bytes_per_s * write_factor,
        write_beside_read_bytes_per_s=machine.write_beside_read_bytes_per_s * write_factor,
    )


def _twice_tokens(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [
        replace(
            one,
            layout=replace(
                one.layout,
                workload=replace(
                    one.layout.workload, rows_per_step=2 * one.layout.workload.rows_per_step
                ),
            ),
        )
        for one in candidates
    ]
