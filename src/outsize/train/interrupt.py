"""Ctrl-C during a run: the first one ends it after the current step, the second one at once."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C ask for the end of the run after the current step; the second one
    interrupts at once.
    """
    asked = False

    def remember(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, previous)

    previous = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, remember)
    except ValueError:
        # Not the main thread: there is no Ctrl-C to catch.
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)
