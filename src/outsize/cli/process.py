"""What must be set in the process before the first import of torch."""

import os

_SPIN_COUNT = "20000"
"""Turns, some tens of microseconds, that an idle compute thread spins before it sleeps."""


def prepare_process() -> None:
    """Prepare this process for a verb that computes; called once, before torch is imported.

    OpenMP threads spin for milliseconds by default while they wait for each other. As soon as
    anything else needs a core, our own transfers included, each wait then costs a time slice: on
    two cores that were shared with one other process, a step took ten times as long.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)
