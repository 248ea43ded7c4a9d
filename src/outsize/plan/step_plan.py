"""The lists of one run, and their text.

A run is `prologue`, `first`, then `steady` or `commit` once a step, and `flush` before it pauses or
ends. The text is what `plan.txt` in a run folder holds and what the golden tests compare. Read
`build.py` next: it makes the lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from outsize.plan.actions import Action, WriteBack, format_actions, parse_action

_SECTIONS = ("prologue", "first", "steady", "commit", "flush")
_HEADER = "arena_bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """The lists of one run.

    Attributes:
        arena_bytes: size of the host arena that all offsets lie in.
        prologue: brings in what is resident between steps.
        first: a step without a pending gradient: weights are derived from the masters.
        steady: a step that first applies the gradient of the step before.
        commit: a steady step that also makes that update durable.
        flush: applies the pending gradient, commits, and empties the arena.
    """

    arena_bytes: int
    prologue: tuple[Action, ...]
    first: tuple[Action, ...]
    steady: tuple[Action, ...]
    commit: tuple[Action, ...]
    flush: tuple[Action, ...]

    @property
    def commits_every_step(self) -> bool:
        """Whether every steady step ends durable without a single extra write."""
        return _num_writes(self.steady) == _num_writes(self.commit)

    def to_text(self) -> str:
        """Return the plan as text: a header line, then one action a line under each list's name."""
        lists = (self.prologue, self.first, self.steady, self.commit, self.flush)
        parts = [f"{_HEADER} {self.arena_bytes}\n"]
        for name, actions in zip(_SECTIONS, lists, strict=True):
            parts += [f"[{name}]\n", format_actions(actions)]
        return "".join(parts)

    @staticmethod
    def from_text(text: str) -> "StepPlan":
        """Read what `to_text` wrote.

        Raises:
            ValueError: the text is no plan; the message has the number of the line.
        """
        header, *lines = text.splitlines() or [""]
        match header.split():
            case [word, count] if word == _HEADER and count.isdecimal():
                return StepPlan(arena_bytes=int(count), **_read_sections(lines))
        raise ValueError(f"line 1 is {header!r} and should be '{_HEADER}' and a number")


def _read_sections(lines: Sequence[str]) -> dict[str, tuple[Action, ...]]:
    """Read the lines after the header; every section must be there, in order."""
    found: dict[str, list[Action]] = {}
    missing = list(_SECTIONS)
    for number, line in enumerate(lines, start=2):
        if missing and line == f"[{missing[0]}]":
            actions = found[missing.pop(0)] = []
        elif not found:
            raise ValueError(f"line {number} is {line!r} and should be '[{missing[0]}]'")
        else:
            actions.append(parse_action(line, number))
    if missing:
        raise ValueError(f"the text ends at line {len(lines) + 1}, before '[{missing[0]}]'")
    return {name: tuple(actions) for name, actions in found.items()}


def _num_writes(actions: Sequence[Action]) -> int:
    return sum(isinstance(action, WriteBack) for action in actions)
