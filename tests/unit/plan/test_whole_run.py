"""What a whole run takes, against lists that are counted action by action and a loop that counts
steps one by one.
"""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import MACHINE, costs, layouts, least_bytes, list_bytes, make_layout
from small_tiers import WITH_DEVICE, plan, plan_or_refusal, some_bytes, total_bytes

from outsize.plan.layout import is_durable
from outsize.plan.search import plan_evaluation, plan_train_step
from outsize.plan.tiers import TieredStep
from outsize.plan.whole_run import (
    Piece,
    Pieces,
    Turns,
    count_turns,
    pieces_of_plan,
    pieces_of_tiers,
    whole_run,
)

PIECES = Pieces(
    import_state=Piece(seconds=3.0, bytes_written=10**6),
    start=Piece(seconds=4.0, bytes_read=10),
    steady=Piece(seconds=2.0, bytes_read=100, bytes_written=1000),
    commit=Piece(seconds=2.5, bytes_read=100, bytes_written=1500),
    flush=Piece(seconds=1.0, bytes_read=1, bytes_written=5),
    evaluation=Piece(seconds=0.5, bytes_read=7),
    commits_every_step=False,
)
SILENT = replace(PIECES, evaluation=None)


def turns_of(
    pieces: Pieces,
    last_step: int,
    *,
    done_steps: int | None = None,
    every: int | None = None,
    commit_seconds: float = 1e9,
) -> Turns:
    return count_turns(
        pieces,
        done_steps=done_steps,
        last_step=last_step,
        evaluation_steps=every,
        commit_seconds=commit_seconds,
    )


def by_the_loop(done: int, last_step: int, every: int | None) -> Counter[str]:
    """Go through the steps as the trainer does."""
    found = Counter({"evaluations": 1})
    step, fresh = done, True
    while step < last_step:
        found["starts" if fresh else "steady"] += 1
        fresh = False
        step += 1
        if every is not None and step % every == 0 and step < last_step:
            found["evaluations"] += 1
            fresh = True
    return found


@given(st.integers(0, 40), st.integers(0, 40), st.none() | st.integers(1, 12))
def test_a_run_pauses_where_the_loop_does(done, more, every):
    found = turns_of(PIECES, done + more, done_steps=done, every=every)
    expected = by_the_loop(done, done + more, every)
    assert (found.imports, found.commits) == (0, 0)
    for part in ("starts", "steady", "evaluations"):
        assert getattr(found, part) == expected[part], part


def test_without_anything_to_evaluate_on_there_is_one_stretch():
    found = turns_of(SILENT, 10, every=2)
    assert found == Turns(imports=1, starts=1, steady=9, commits=0, evaluations=0)


def test_a_run_that_goes_on_makes_no_state_and_does_what_is_left():
    found = turns_of(PIECES, 1000, done_steps=990, every=100)
    assert found == Turns(imports=0, starts=1, steady=9, commits=0, evaluations=1)
    # Only the first state is committed: nothing is made, and no step is done.
    found = turns_of(PIECES, 1000, done_steps=0)
    assert found == Turns(imports=0, starts=1, steady=999, commits=0, evaluations=1)


def test_of_a_run_that_is_done_only_the_evaluation_is_left():
    found = turns_of(PIECES, 8, done_steps=8, every=4, commit_seconds=0.0)
    assert found == Turns(imports=0, starts=0, steady=0, commits=0, evaluations=1)
    assert whole_run(PIECES, found) == PIECES.evaluation


@pytest.mark.parametrize(
    ("following", "seconds", "commits"),
    [(0, 60.0, 0), (29, 60.0, 0), (30, 60.0, 1), (100, 60.0, 3), (7, 0.0, 7), (7, 1.0, 7)],
)
def test_commits_are_as_many_as_the_clock_asks_for(following, seconds, commits):
    found = turns_of(SILENT, following + 1, commit_seconds=seconds)
    assert (found.commits, found.steady) == (commits, following - commits)
    every_step = replace(SILENT, commits_every_step=True)
    assert turns_of(every_step, following + 1, commit_seconds=seconds).commits == following


def test_the_time_of_an_evaluation_brings_the_next_commit_nearer():
    """Stretches of 20 steps of 2 s: a commit every 60 s is never due, but 50 s sooner it is."""
    slow = replace(PIECES, evaluation=Piece(seconds=50.0))
    assert turns_of(PIECES, 60, every=20, commit_seconds=60.0).commits == 0
    assert turns_of(slow, 60, every=20, commit_seconds=60.0).commits == 2


def test_a_run_is_the_sum_of_its_parts():
    turns = Turns(imports=1, starts=3, steady=20, commits=4, evaluations=2)
    assert whole_run(PIECES, turns) == Piece(
        seconds=3.0 + 3 * (4.0 + 1.0) + 20 * 2.0 + 4 * 2.5 + 2 * 0.5,
        bytes_read=3 * (10 + 1) + 24 * 100 + 2 * 7,
        bytes_written=10**6 + 3 * 5 + 20 * 1000 + 4 * 1500,
    )


@settings(deadline=None, max_examples=20)
@given(layouts())
def test_each_part_moves_what_its_list_moves(layout):
    planned = plan_train_step(layout, 2 * least_bytes(layout), MACHINE, costs(layout))
    lists = planned.plan
    evaluation = plan_evaluation(layout, lists.arena_bytes)
    found = pieces_of_plan(planned, layout, MACHINE, costs(layout), evaluation, 3)
    assert found.evaluation is not None
    for piece, actions, times in (
        (found.start, (*lists.prologue, *lists.first), 1),
        (found.steady, lists.steady, 1),
        (found.commit, lists.commit, 1),
        (found.flush, lists.flush, 1),
        (found.evaluation, evaluation, 3),
    ):
        read, written = list_bytes(actions, layout)
        assert (piece.bytes_read, piece.bytes_written) == (times * read, times * written)
        assert piece.seconds > 0
    imported = layout.state_bytes + layout.base_bytes
    assert found.import_state == Piece(
        seconds=imported / MACHINE.write_bytes_per_s, bytes_written=imported
    )
    assert found.commits_every_step == lists.commits_every_step


@settings(deadline=None, max_examples=20)
@given(layouts(), st.floats(0, 0.6), st.floats(0.2, 1))
def test_with_a_device_the_whole_state_is_read_first_and_written_last(layout, device, host):
    step = plan_or_refusal(layout, some_bytes(layout, device), some_bytes(layout, host))
    if not isinstance(step, TieredStep):
        assert step.needed_bytes > 0
        return
    found = pieces_of_tiers(step, layout, WITH_DEVICE, costs(layout), 2)
    assert found.evaluation is not None
    assert found.import_state.bytes_written == layout.state_bytes + layout.base_bytes
    assert found.start.bytes_read >= layout.state_bytes
    assert found.flush.bytes_written >= layout.state_bytes
    assert found.commit.bytes_written == found.steady.bytes_written + step.commit_bytes_written
    assert found.commit.seconds >= found.steady.seconds == step.prediction.step_s
    assert found.evaluation.bytes_read == 2 * (layout.state_bytes + layout.base_bytes)


def test_a_short_run_that_is_all_on_the_device_moves_its_state_all_the_same():
    layout = make_layout(num_blocks=2)
    step = plan(layout, 2 * total_bytes(layout), 0)
    assert any(is_durable(room.region) for room in step.resident)
    found = pieces_of_tiers(step, layout, WITH_DEVICE, costs(layout), None)
    assert (found.steady.bytes_read, found.steady.bytes_written) == (0, 0)
    short = whole_run(found, turns_of(found, 3))
    assert short.bytes_read == layout.state_bytes
    assert short.bytes_written == 2 * layout.state_bytes  # the first state, and the last one
    long = whole_run(found, turns_of(found, 3, commit_seconds=0.0))
    assert long.bytes_written == 4 * layout.state_bytes
