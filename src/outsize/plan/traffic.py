"""Bytes that a whole run moves between host and disk, counted from its lists."""

from collections.abc import Iterable

from outsize.plan.actions import Action, Fetch, WriteBack
from outsize.plan.layout import Layout
from outsize.plan.step_plan import StepPlan


def list_bytes(actions: Iterable[Action], layout: Layout) -> tuple[int, int]:
    """Return the bytes that a list reads from disk and writes to it."""
    read = written = 0
    for action in actions:
        match action:
            case Fetch(region, "disk", _, _):
                read += layout.region_bytes[region]
            case WriteBack(region, _, "disk"):
                written += layout.region_bytes[region]
    return read, written


def run_bytes(
    plan: StepPlan, layout: Layout, *, num_steps: int, num_starts: int, num_commits: int
) -> tuple[int, int]:
    """Return the bytes that `num_steps` steps read and write, starts and ends included.

    Args:
        plan: the plan.
        layout: its regions.
        num_steps: how many.
        num_starts: how often the steps began with an empty arena, and ended with one.
        num_commits: how many of the other steps commit besides.
    """
    steady = num_steps - num_starts - num_commits
    total_read = total_written = 0
    for actions, times in (
        (plan.prologue, num_starts),
        (plan.first, num_starts),
        (plan.steady, steady),
        (plan.commit, num_commits),
        (plan.flush, num_starts),
    ):
        read, written = list_bytes(actions, layout)
        total_read += times * read
        total_written += times * written
    return total_read, total_written
