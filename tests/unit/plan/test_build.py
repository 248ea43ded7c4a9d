"""The lists of a run: their text, and how they differ from the steady step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import MACHINE, costs, layouts, least_bytes, make_layout

from outsize.plan.actions import Action, Commit, Compute, Fetch, Release, Update, WriteBack
from outsize.plan.layout import Layout, is_durable, role
from outsize.plan.search import plan_train_step
from outsize.plan.step_plan import StepPlan

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
        ("", "line 1 is '' and should be 'arena_bytes' and a number"),
        ("hello\n", "line 1 is 'hello' and should be 'arena_bytes' and a number"),
        ("arena_bytes many\n", "line 1 is 'arena_bytes many' and should be 'arena_bytes'"),
        ("arena_bytes 1\n", r"the text ends at line 1, before '\[prologue\]'"),
        (EMPTY.replace("[prologue]", "commit"), r"line 2 is 'commit' and should be '\[prologue\]'"),
        (EMPTY.replace("[first]\n", ""), r"line 3 is no action: '\[steady\]'"),
        (EMPTY.replace("[flush]\n", ""), r"the text ends at line 5, before '\[flush\]'"),
        (EMPTY + "[flush]\n", r"line 7 is no action: '\[flush\]'"),
        (EMPTY.replace("[first]\n", "commit\n[first]\nfly\n"), "line 5 is no action: 'fly'"),
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
    state = sorted(region for region in layout.region_bytes if role(region) == "state")
    assert sorted(saved(plan.commit)) == state
    assert [a for a in plan.commit if a not in plan.steady and not isinstance(a, WriteBack)] == [
        Commit()
    ]
    assert work(plan.commit) == work(plan.steady)
    assert plan.commits_every_step == (sorted(saved(plan.steady)) == state)


@settings(deadline=None, max_examples=20)
@given(layouts(), st.floats(0, 1))
def test_a_flush_saves_every_region_of_state_and_nothing_runs_but_updates(layout, fraction):
    plan = make_plan(layout, fraction)
    state = sorted(region for region in layout.region_bytes if role(region) == "state")
    assert sorted(saved(plan.flush)) == state
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


def test_a_tied_gradient_that_was_saved_is_fetched_again_in_the_first_step():
    # It is made by the head, leaves, and comes back for the embedding: no pending gradient then.
    layout = make_layout(
        span_elements=2**20, num_blocks=4, hidden=96, vocab=3, norms=False, clip=True,
        num_micro_batches=4, micro_batch_rows=2, seq_length=100,
    )  # fmt: skip
    plan = plan_train_step(layout, 176128, MACHINE, costs(layout)).plan
    head, embedding = (plan.first.index(Compute(i, "backward", 0)) for i in (5, 0))
    between = plan.first[head:embedding]
    assert any(isinstance(a, Fetch) and a.region == "gradient/0" for a in between)
    pending = [a.region for a in plan.first[:head] if isinstance(a, Fetch)]
    assert not any(region.startswith("gradient/") for region in pending)
