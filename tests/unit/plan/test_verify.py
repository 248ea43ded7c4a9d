"""The verifier accepts what the planner makes and refuses every way to break it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from small_models import MACHINE, costs, least_bytes, make_layout

from outsize.plan.actions import Acquire, Action, Commit, Compute, Fetch, Release, Update, WriteBack
from outsize.plan.schedule import evaluate_step, uses
from outsize.plan.search import plan_evaluation, plan_train_step
from outsize.plan.step_plan import StepPlan
from outsize.plan.verify import PlanInvalidError, verify_pass, verify_plan

LAYOUT = make_layout(span_elements=1024, num_blocks=1, seq_length=100)
PLAN = plan_train_step(LAYOUT, 2 * least_bytes(LAYOUT), MACHINE, costs(LAYOUT)).plan
LISTS = ("prologue", "first", "steady", "commit", "flush")
Actions = tuple[Action, ...]


def changed(name: str, actions: Sequence[Action]) -> StepPlan:
    return replace(PLAN, **{name: tuple(actions)})


def accepted(mutants: Iterator[tuple[str, StepPlan]]) -> list[str]:
    """Mutants that the verifier takes for plans; there must be one mutant at least."""
    found, count = [], 0
    for what, plan in mutants:
        count += 1
        try:
            verify_plan(plan, LAYOUT)
        except PlanInvalidError:
            continue
        found.append(what)
    assert count
    return found


def dropped(kind: type, lists: Sequence[str] = LISTS) -> Iterator[tuple[str, StepPlan]]:
    for name in lists:
        actions: Actions = getattr(PLAN, name)
        for i, action in enumerate(actions):
            if isinstance(action, kind):
                yield f"{name} {i} {action}", changed(name, actions[:i] + actions[i + 1 :])


def test_the_plan_itself_is_accepted_and_moves_scratch_too():
    verify_plan(PLAN, LAYOUT)
    moved = {action.region for action in PLAN.steady if isinstance(action, Fetch)}
    assert any(region.startswith("state/") for region in moved)
    assert any(region.startswith("boundary/") for region in moved)


@pytest.mark.parametrize("kind", [Fetch, Acquire, WriteBack, Release, Compute, Update, Commit])
def test_no_action_can_be_left_out(kind):
    assert accepted(dropped(kind)) == []


def moved_before_last_use(name: str) -> Iterator[tuple[str, StepPlan]]:
    """Each release put in front of the last action that needs its region."""
    actions: Actions = getattr(PLAN, name)
    for i, action in enumerate(actions):
        if not isinstance(action, Release):
            continue
        for j in range(i - 1, -1, -1):
            other = actions[j]
            if isinstance(other, Compute | Update) and action.region in touched(other):
                rest = (*actions[:j], action, *actions[j:i], *actions[i + 1 :])
                yield f"{name} {action} before {other}", changed(name, rest)
                break


def touched(action: Compute | Update) -> set[str]:
    return {use.region for use in uses(LAYOUT, action)}


@pytest.mark.parametrize("name", ["first", "steady", "commit", "flush"])
def test_nothing_can_be_released_early(name):
    assert accepted(moved_before_last_use(name)) == []


def late_transfers() -> Iterator[tuple[str, StepPlan]]:
    """Each fetch and each acquire put behind the first action that needs its region."""
    for i, action in enumerate(PLAN.steady):
        if isinstance(action, Fetch | Acquire):
            for j in range(i + 1, len(PLAN.steady)):
                other = PLAN.steady[j]
                if isinstance(other, Compute | Update) and action.region in touched(other):
                    rest = [*PLAN.steady[:i], *PLAN.steady[i + 1 : j + 1], action]
                    yield (
                        f"{action} after {other}",
                        changed("steady", [*rest, *PLAN.steady[j + 1 :]]),
                    )
                    break


def test_nothing_can_be_brought_late():
    assert accepted(late_transfers()) == []


def early_writes() -> Iterator[tuple[str, StepPlan]]:
    """Each write put in front of the action that changes its region last."""
    for i, action in enumerate(PLAN.steady):
        if isinstance(action, WriteBack):
            changes = [
                j
                for j, other in enumerate(PLAN.steady[:i])
                if isinstance(other, Compute | Update) and action.region in touched(other)
            ]
            j = changes[-1]
            rest = [*PLAN.steady[:j], action, *PLAN.steady[j:i], *PLAN.steady[i + 1 :]]
            yield f"{action} before {PLAN.steady[j]}", changed("steady", rest)


def test_nothing_can_be_saved_before_it_is_made():
    assert accepted(early_writes()) == []


def swapped_work() -> Iterator[tuple[str, StepPlan]]:
    for name in ("first", "steady", "commit", "flush"):
        actions: Actions = getattr(PLAN, name)
        places = [i for i, a in enumerate(actions) if isinstance(a, Compute | Update)]
        for i, j in pairwise(places):
            rest = list(actions)
            rest[i], rest[j] = rest[j], rest[i]
            yield f"{name} {actions[i]} and {actions[j]}", changed(name, rest)


def test_no_two_pieces_of_work_can_change_places():
    assert accepted(swapped_work()) == []


def moved(choose: Callable[[Action, list[int]], int | None]) -> Iterator[tuple[str, StepPlan]]:
    """Each region that a step brings in, put where `choose` says among the offsets in use."""
    offsets: dict[str, int] = {}
    for action in PLAN.prologue:
        if isinstance(action, Fetch | Acquire):
            offsets[action.region] = action.offset_bytes
    for i, action in enumerate(PLAN.steady):
        if isinstance(action, Release):
            del offsets[action.region]
        if isinstance(action, Fetch | Acquire):
            offset = choose(action, list(offsets.values()))
            if offset is not None:
                wrong = replace(action, offset_bytes=offset)
                rest = [*PLAN.steady[:i], wrong, *PLAN.steady[i + 1 :]]
                yield f"{action} to {offset}", changed("steady", rest)
            offsets[action.region] = action.offset_bytes


@pytest.mark.parametrize(
    "choose",
    [
        lambda action, taken: taken[0] if taken else None,
        lambda action, taken: taken[-1] if taken else None,
        lambda action, taken: -4096,
        lambda action, taken: PLAN.arena_bytes,
        lambda action, taken: action.offset_bytes + 2048,
    ],
    ids=["first taken", "last taken", "below", "beyond", "across pages"],
)
def test_no_region_can_lie_elsewhere(choose):
    assert accepted(moved(choose)) == []


def test_a_smaller_arena_is_refused():
    with pytest.raises(PlanInvalidError, match="lies outside the arena"):
        verify_plan(replace(PLAN, arena_bytes=PLAN.arena_bytes - 4096), LAYOUT)


def test_a_step_that_fetches_an_old_copy_is_refused():
    # The first step saved it, so it is on disk; without the write the next step reads that copy.
    fetched = next(
        a for a in PLAN.steady if isinstance(a, Fetch) and a.region.startswith("boundary/")
    )
    rest = [a for a in PLAN.steady if a != WriteBack(fetched.region, "host", "disk")]
    with pytest.raises(PlanInvalidError, match=r"the copy of boundary/.* on disk is old"):
        verify_plan(changed("steady", rest), LAYOUT)


def test_the_message_shows_the_list_with_the_failing_line_marked():
    index = next(i for i, action in enumerate(PLAN.steady) if isinstance(action, Fetch))
    broken = changed("steady", [*PLAN.steady[:index], *PLAN.steady[index + 1 :]])
    with pytest.raises(PlanInvalidError) as caught:
        verify_plan(broken, LAYOUT)
    header, *lines = str(caught.value).splitlines()
    assert header.startswith("steady, action ")
    assert header.endswith("is not in host memory")
    (marked,) = (line for line in lines if line.startswith(">> "))
    assert marked.removeprefix(">> ") in PLAN.to_text()


COMMIT_FIRST = (Commit(), *(a for a in PLAN.commit if not isinstance(a, Commit)))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (changed("steady", PLAN.commit), "steady commits 1 times instead of 0"),
        (changed("commit", PLAN.steady), "commit commits 0 times instead of 1"),
        (changed("commit", COMMIT_FIRST), "commit commits before its last update"),
        (changed("first", PLAN.steady), "first does other work than the schedule says"),
        (changed("prologue", ()), "is not in host memory"),
        (
            changed("prologue", (*PLAN.prologue, Fetch("boundary/1/0", "disk", "host", 0))),
            "boundary/1/0 is not on disk",
        ),
        (
            changed("prologue", (WriteBack("state/0/0", "host", "disk"), *PLAN.prologue)),
            "state/0/0 is not in host memory",
        ),
        (
            changed("prologue", (Acquire("weights/0", "device", 0), *PLAN.prologue)),
            "no such transfer in a plan of two tiers",
        ),
        (
            changed("flush", (*PLAN.flush, Acquire("weights/0", "host", 0))),
            "flush leaves weights/0 in host memory",
        ),
    ],
)
def test_what_the_messages_say(plan, message):
    with pytest.raises(PlanInvalidError, match=message):
        verify_plan(plan, LAYOUT)


def test_content_that_was_never_made_can_be_neither_used_nor_saved():
    blank = (Acquire("norm_copy/0", "host", 0), WriteBack("norm_copy/0", "host", "disk"))
    with pytest.raises(PlanInvalidError, match="norm_copy/0 is undefined when written"):
        verify_pass(blank, LAYOUT, PLAN.arena_bytes, ())
    work = Compute(0, "gradient_norm", 0)
    norm = (Acquire("gradient/0", "host", 0), Acquire("norm_copy/0", "host", 4096), work)
    with pytest.raises(PlanInvalidError, match="gradient/0 is undefined when read"):
        verify_pass(norm, LAYOUT, 3 * 4096, (work,))


def test_an_evaluation_is_checked_in_the_same_way():
    actions = plan_evaluation(LAYOUT, PLAN.arena_bytes)
    work = evaluate_step(LAYOUT)
    verify_pass(actions, LAYOUT, PLAN.arena_bytes, work)
    for i, action in enumerate(actions):
        if not isinstance(action, WriteBack):
            rest = (*actions[:i], *actions[i + 1 :])
            with pytest.raises(PlanInvalidError, match="pass"):
                verify_pass(rest, LAYOUT, PLAN.arena_bytes, work)
    with pytest.raises(PlanInvalidError, match="pass leaves weights/0 in host memory"):
        verify_pass((Acquire("weights/0", "host", 0),), LAYOUT, PLAN.arena_bytes, ())
