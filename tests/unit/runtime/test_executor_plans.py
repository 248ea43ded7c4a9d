"""Random plans, and broken ones that the verifier lets pass, give the same bytes as no plan at all.

This ties the three together: what `verify_plan` accepts, the executor runs right.
"""

from dataclasses import replace

from fake_training import LateStore, Reference, Run
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import MACHINE, costs, layouts, least_bytes, make_layout

from outsize.plan.search import plan_train_step
from outsize.plan.step_plan import StepPlan
from outsize.plan.verify import PlanInvalidError, verify_plan

LISTS = ("prologue", "first", "steady", "commit", "steady", "flush", "prologue", "first", "flush")
SMALL = make_layout(span_elements=1024, num_blocks=1, seq_length=100)
PLAN = plan_train_step(SMALL, 2 * least_bytes(SMALL), MACHINE, costs(SMALL)).plan
REFERENCE = Reference(SMALL)
REFERENCE.do(*LISTS)


@settings(deadline=None, max_examples=40)
@given(layouts(), st.floats(0, 1))
def test_a_plan_computes_what_memory_without_end_would(layout, fraction):
    least, total = 3 * least_bytes(layout) // 2, sum(layout.region_bytes.values())
    arena_bytes = int(least + fraction * max(0, total - least)) // 4096 * 4096
    plan = plan_train_step(layout, arena_bytes, MACHINE, costs(layout)).plan
    run, reference = Run(layout, plan, LateStore), Reference(layout)
    run.do(*LISTS)
    reference.do(*LISTS)
    assert run.kernels.trace == reference.kernels.trace
    assert run.committed_state() == reference.state()


@st.composite
def broken_plans(draw: st.DrawFn) -> StepPlan:
    """The plan with one to three actions dropped, doubled, swapped or moved."""
    plan = PLAN
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(["prologue", "first", "steady", "commit", "flush"]))
        actions = list(getattr(plan, name))
        i, j = (draw(st.integers(0, len(actions) - 1)) for _ in range(2))
        match draw(st.sampled_from(["drop", "double", "swap", "move", "offset"])):
            case "drop":
                del actions[i]
            case "double":
                actions.insert(j, actions[i])
            case "swap":
                actions[i], actions[j] = actions[j], actions[i]
            case "move":
                actions.insert(j, actions.pop(i))
            case _:
                changes = {"offset_bytes": 4096 * draw(st.integers(0, 40))}
                known = actions[i].__dataclass_fields__.keys() & changes.keys()
                actions[i] = replace(actions[i], **{key: changes[key] for key in known})
        plan = replace(plan, **{name: tuple(actions)})
    return plan


@settings(deadline=None, max_examples=400)
@given(broken_plans())
def test_what_the_verifier_lets_pass_runs_right(plan):
    try:
        verify_plan(plan, SMALL)
    except PlanInvalidError:
        return
    run = Run(SMALL, plan, LateStore)
    run.do(*LISTS)
    assert run.kernels.trace == REFERENCE.kernels.trace
    assert run.committed_state() == REFERENCE.state()
