"""The lists of a run: their text, and how they differ from the steady step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import MACHINE, costs, layouts, least_bytes, make_layout

from outsize.plan.actions import Acquire, Action, Commit, Compute, Fetch, Release, Update, WriteBack
from outsize.plan.build import StepPlan
from outsize.plan.layout import Layout, is_durable
from outsize.plan.search import plan_train_step

PAGE = 4096


def make_plan(layout: Layout, fraction: float = 0.3) -> StepPlan:
    """A plan in an arena between twice what the largest action needs and all there is."""
    least, total = 2 * least_bytes(layout), sum(layout.region_bytes.values())
    arena_bytes = max(least, int(least + fraction * (total - least)) // PAGE * PAGE)
    return plan_train_step(layout, arena_bytes, MACHINE, costs(layout)).plan


def work(actions: tuple[Action, ...]) -> list[Action]:
    return [action for action in actions if isinstance(action, Compute | Update)]


def saved(actions: tuple[Action, ...]) -> list[str]:
    return [a.region for a in actions if isinstance(a, WriteBack) and is_durable(a.region)]


@settings(deadline=None, max_examples=20)
@given(layouts(), st.floats(0, 1))
def test_text_and_plan_are_the_same(layout, fraction):
    plan = make_plan(layout, fraction)
    assert StepPlan.from_text(plan.to_text()) == plan


def test_a_plan_is_readable_text():
    plan = StepPlan(
        arena_bytes=8192,
        prologue=(Fetch("state/0/0", "disk", "host", 0),),
        first=(),
        steady=(Update(0, 0, "optimizer"),),
        commit=(Commit(),),
        flush=(Release("state/0/0", "host"),),
    )
    assert plan.to_text() == (
        "arena_bytes 8192\n[prologue]\nfetch state/0/0 disk host 0\n[first]\n[steady]\n"
        "update 0 0 optimizer\n[commit]\ncommit\n[flush]\nrelease state/0/0 host\n"
    )


EMPTY = "arena_bytes 0\n[prologue]\n[first]\n[steady]\n[commit]\n[flush]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: a plan starts with arena_bytes"),
        ("hello\n", "line 1: a plan starts with arena_bytes"),
        ("arena_bytes many\n", "line 1: a plan starts with arena_bytes"),
        (EMPTY.replace("[first]\n", ""), "line 3 is 'steady' and should be the start of 'first'"),
        (EMPTY.replace("[flush]\n", ""), "the plan ends before 'flush'"),
        (EMPTY + "[flush]\n", r"line 7 is no action: '\[flush\]'"),
        (EMPTY.replace("[first]\n", "commit\n[first]\nfly\n"), "line 5 is no action: 'fly'"),
        (EMPTY.replace("[prologue]", "commit"), "line 2 is 'commit' and should be the start of"),
    ],
)
def test_an_unreadable_plan_names_the_line(text, message):
    with pytest.raises(ValueError, match=message):
        StepPlan.from_text(text)


@settings(deadline=None, max_examples=20)
@given(layouts(), st.floats(0, 1))
def test_the_first_step_changes_no_state(layout, fraction):
    plan = make_plan(layout, fraction)
    assert all(a.kind == "derive" for a in plan.first if isinstance(a, Update))
    assert saved(plan.first) == []
    compute = [a for a in work(plan.first) if isinstance(a, Compute)]
    assert compute == [a for a in work(plan.steady) if isinstance(a, Compute)]


@settings(deadline=None, max_examples=20)
@given(layouts(), st.floats(0, 1))
def test_a_commit_saves_every_region_of_state_once(layout, fraction):
    plan = make_plan(layout, fraction)
    durable = sorted(region for region in layout.region_bytes if is_durable(region))
    assert sorted(saved(plan.commit)) == durable
    assert [a for a in plan.commit if a not in plan.steady and not isinstance(a, WriteBack)] == [
        Commit()
    ]
    assert work(plan.commit) == work(plan.steady)
    assert plan.commits_every_step == (sorted(saved(plan.steady)) == durable)


@settings(deadline=None, max_examples=20)
@given(layouts(), st.floats(0, 1))
def test_a_flush_saves_every_region_of_state_and_nothing_runs_but_updates(layout, fraction):
    plan = make_plan(layout, fraction)
    durable = sorted(region for region in layout.region_bytes if is_durable(region))
    assert sorted(saved(plan.flush)) == durable
    assert work(plan.flush) == [a for a in plan.steady if isinstance(a, Update)]
    assert [a for a in plan.flush if isinstance(a, Commit)] == [Commit()]


def test_the_commit_leaves_the_writes_time_to_finish():
    plan = make_plan(make_layout(num_blocks=2))
    index = plan.commit.index(Commit())
    assert work(plan.commit[:index])[-1] == Compute(2, "backward", 1)


def test_with_room_for_everything_a_steady_step_has_no_transfer():
    layout = make_layout(num_blocks=2)
    plan = make_plan(layout, fraction=1.0)
    assert not any(isinstance(a, Fetch | WriteBack) for a in plan.steady)
    assert all(isinstance(a, Fetch) for a in plan.prologue if is_durable(a.region))
    assert not plan.commits_every_step


def test_a_pending_gradient_that_is_not_there_yet_is_not_fetched():
    # The tied gradient is written by the head, saved, and fetched again for the embedding.
    layout = make_layout(num_blocks=4, hidden=96, vocab=3, norms=False, seq_length=100)
    plan = plan_train_step(layout, 180224, MACHINE, costs(layout)).plan
    first = list(plan.first)
    fetched = [a.region for a in first if isinstance(a, Fetch) and a.region == "gradient/0"]
    head = first.index(Compute(5, "backward", 0))
    made = [a for a in first[:head] if isinstance(a, Acquire) and a.region == "gradient/0"]
    assert made
    assert fetched == [] or first.index(Fetch("gradient/0", "disk", "host", made[0].offset_bytes))
