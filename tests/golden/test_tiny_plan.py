"""The plan of a tiny model, word for word: a change of the planner is a reviewed diff."""

from tiny_plan import GOLDEN, plan_text

from outsize.plan.step_plan import StepPlan


def test_the_plan_is_the_reviewed_one():
    assert plan_text() == GOLDEN.read_text(), (
        "The planner makes another plan now. If that is meant, write the file anew with "
        "`python tests/golden/tiny_plan.py` and review its diff."
    )


def test_the_reviewed_plan_can_be_read():
    text = GOLDEN.read_text()
    assert StepPlan.from_text(text).to_text() == text
