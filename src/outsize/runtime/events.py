"""What a run tells whoever watches it, as data: the terminal, a report, a test.

A verb calls `on_event` with these; nothing here is drawn or printed. `report/terminal.py` draws
them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """A phase such as `import` or `profile` began; `total` counts `unit`s, None when unknown."""

    phase: str
    total: int | None
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseAdvanced:
    """`done` of the phase's `total` units are finished."""

    phase: str
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFinished:
    """The phase ended after `seconds`."""

    phase: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The plan is made: the rows of the prediction, as (label, text) in the order to show."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUnderWay:
    """A train step is going on; told about twice a second.

    Attributes:
        done_steps: finished steps and the finished part of this one.
        num_steps: how many the run will take.
        remaining_s: honest time left: by the plan first, by the measured steps later.
    """

    done_steps: float
    num_steps: int
    remaining_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """One train step is done.

    Attributes:
        step: number of finished steps, from 1.
        num_steps: how many the run will take.
        loss: mean loss per token of the step.
        gradient_norm: global gradient norm before clipping; None when clipping is off.
        learning_rate: the rate that this step's gradient is applied with.
        num_tokens: tokens in the step, padding included.
        step_s: its wall time.
        predicted_step_s: what the plan said.
        remaining_s: honest time left, from the measured steps.
        host_bytes: resident bytes of the process now; `budget_bytes` is their limit.
        bytes_read: read from disk in this step; `bytes_written` likewise.
    """

    step: int
    num_steps: int
    loss: float
    gradient_norm: float | None
    learning_rate: float
    num_tokens: int
    step_s: float
    predicted_step_s: float
    remaining_s: float
    host_bytes: int
    budget_bytes: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The evaluation loss after `step` steps, mean per token."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """Everything up to and including `step` is durable."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One sentence that the user should read: a fallback and its reason, a truncation, a remedy."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextGenerated:
    """The next piece of an answer; all pieces together are its text."""

    text: str


Event = (
    PhaseStarted
    | PhaseAdvanced
    | PhaseFinished
    | Planned
    | StepUnderWay
    | StepFinished
    | Evaluated
    | Committed
    | Notice
    | TextGenerated
)
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch nothing."""


@contextmanager
def phase(name: str, on_event: OnEvent, total: int | None = None, unit: str = "") -> Iterator[None]:
    """Tell the start of a phase and, when it went well, its end."""
    on_event(PhaseStarted(phase=name, total=total, unit=unit))
    start_s = time.monotonic()
    yield
    on_event(PhaseFinished(phase=name, seconds=time.monotonic() - start_s))
