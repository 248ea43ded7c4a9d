"""How far a step is while it runs, by the predicted times of its actions."""

import time
from collections.abc import Callable, Iterator, Sequence

from outsize.plan.actions import Action, Work
from outsize.plan.simulate import work_seconds
from outsize.train.session import Session

_TELL_SECONDS = 0.5


def watched(
    actions: Sequence[Action], session: Session, tell: Callable[[float], None]
) -> Iterator[Action]:
    """Yield the actions of a step; about twice a second, tell which fraction of it is done."""
    costs = session.profile.costs
    seconds = [
        work_seconds(session.layout, action, session.machine, costs)
        if isinstance(action, Work)
        else 0.0
        for action in actions
    ]
    total_s, done_s, told_s = max(sum(seconds), 1e-9), 0.0, 0.0
    for action, action_s in zip(actions, seconds, strict=True):
        if time.monotonic() - told_s > _TELL_SECONDS:
            told_s = time.monotonic()
            tell(done_s / total_s)
        yield action
        done_s += action_s
