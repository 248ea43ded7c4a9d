"""What is done between the actions of a step."""

from itertools import pairwise
from types import SimpleNamespace

from decoders import LANES, make_candidate, make_decoder

from outsize.plan.actions import Work
from outsize.plan.search import plan_train_step, whole_arena_bytes
from outsize.train.progress import watched

ONE = make_candidate(make_decoder(num_blocks=2))
SESSION = SimpleNamespace(
    layout=ONE.layout, machine=LANES, profile=SimpleNamespace(costs=ONE.costs)
)


def test_memory_is_looked_at_before_every_action_that_computes() -> None:
    arena_bytes = whole_arena_bytes(ONE.layout)
    actions = plan_train_step(ONE.layout, arena_bytes, LANES, ONE.costs, "time").plan.first
    seen: list[object] = []
    told: list[float] = []
    for action in watched(actions, SESSION, look=lambda: seen.append("look"), tell=told.append):
        seen.append(action)
    assert [one for one in seen if one != "look"] == list(actions)
    following = [after for before, after in pairwise(seen) if before == "look"]
    assert following == [action for action in actions if isinstance(action, Work)]
    assert told == [0.0]  # once at the start; so short a loop is never told of again
