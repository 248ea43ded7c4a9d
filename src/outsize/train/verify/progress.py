"""Steps finished in a child process, told to this one as they happen.

A child that is run by `isolate.py` answers once, at its end. Each finished step is a byte in a
named pipe besides.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_STEP = b"s"
_END = b"e"


@contextmanager
def count_steps(path: Path, on_step: Callable[[], None]) -> Iterator[None]:
    """Call `on_step` whenever a child says `step_finished(path)`.

    Guarantees: every step of a child that has ended is told before this ends. Calls come from one
    other thread; it lets this one wait for the child.
    """
    os.mkfifo(path)
    # Open for writing too, so that the pipe has no end before we say so.
    pipe = os.open(path, os.O_RDWR)
    listener = threading.Thread(target=_listen, args=(pipe, on_step), name="verify-steps")
    listener.start()
    try:
        yield
    finally:
        os.write(pipe, _END)
        listener.join()
        os.close(pipe)
        path.unlink()


def step_finished(path: Path) -> None:
    """Tell the process that counts one more step."""
    pipe = os.open(path, os.O_WRONLY)
    os.write(pipe, _STEP)
    os.close(pipe)


def _listen(pipe: int, on_step: Callable[[], None]) -> None:
    while (byte := os.read(pipe, 1)) != _END:
        assert byte == _STEP
        on_step()
