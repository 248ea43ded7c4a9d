"""Bytes of a run, counted from its lists."""

from hypothesis import given, settings
from small_models import MACHINE, costs, layouts, least_bytes, make_layout

from outsize.plan.actions import Commit, Fetch, WriteBack
from outsize.plan.search import plan_train_step
from outsize.plan.step_plan import StepPlan
from outsize.plan.traffic import list_bytes, run_bytes

FETCH = Fetch("state/0/0", "disk", "host", 0)
SAVE = WriteBack("state/0/0", "host", "disk")
SIZE = 12288


def test_only_transfers_from_and_to_disk_count():
    layout = make_layout()
    upload = Fetch("state/0/0", "host", "device", 0)
    assert list_bytes((FETCH, upload, SAVE, SAVE, Commit()), layout) == (SIZE, 2 * SIZE)


def test_a_run_is_prologue_first_steps_commits_and_flush():
    layout = make_layout()
    plan = StepPlan(
        arena_bytes=SIZE,
        prologue=(FETCH,) * 1,
        first=(FETCH,) * 10,
        steady=(FETCH,) * 100,
        commit=(FETCH,) * 1000,
        flush=(SAVE,) * 3,
    )
    found = [
        run_bytes(plan, layout, num_steps=steps, num_starts=starts, num_commits=commits)
        for steps, starts, commits in ((0, 0, 0), (1, 1, 0), (6, 1, 2), (6, 3, 1))
    ]
    assert found == [
        (0, 0),
        (11 * SIZE, 3 * SIZE),
        (2311 * SIZE, 3 * SIZE),
        (1233 * SIZE, 9 * SIZE),
    ]


@settings(deadline=None, max_examples=20)
@given(layouts())
def test_a_steady_step_moves_what_is_predicted(layout):
    planned = plan_train_step(layout, 2 * least_bytes(layout), MACHINE, costs(layout))
    predicted = (planned.prediction.bytes_read, planned.prediction.bytes_written)
    assert list_bytes(planned.plan.steady, layout) == predicted
