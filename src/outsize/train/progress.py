"""How far a step is while it runs, by the predicted times of its actions."""

import time
from collections.abc import Callable, Iterator, Sequence

from outsize.plan.actions import Action, Work
from outsize.plan.simulate import work_seconds
from outsize.train.session import Session

_TELL_SECONDS = 0.5


def watched(
    actions: Sequence[Action],
    session: Session,
    *,
    look: Callable[[], None],
    tell: Callable[[float], None],
) -> Iterator[Action]:
    """Yield the actions of a step.

    Args:
        actions: in order.
        session: predicts how long each of them takes.
        look: called before every action that computes.
        tell: called about twice a second with the fraction of the step that is done.
    """
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
        if isinstance(action, Work):
            look()
        yield action
        done_s += action_s
