"""What the command line knows of one verb; each file beside this one defines one.

A verb names its options by a dataclass; `parser.py` makes the command line from that and `entry.py`
runs it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a verb ended: the object for the last line on stdout, and the exit code."""

    json: dict[str, Any]
    exit_code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Options that the help shows together, by key."""

    title: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One verb.

    Attributes:
        name: as typed, for example `train` or `plan train`.
        summary: one line for the list of verbs.
        record: dataclass of its options; None when it has none.
        positional: key of the option that stands without a name; None when there is none.
        groups: its other options, each in exactly one group.
        fixed: values that the verb itself decides, by key.
        trainer_names: whether the spellings of the Hugging Face trainers are read.
        example: one command for the help.
        run: does it; takes the record, or nothing when there is none.
    """

    name: str
    summary: str
    record: type[Any] | None = None
    positional: str | None = None
    groups: tuple[Group, ...] = ()
    fixed: tuple[tuple[str, object], ...] = ()
    trainer_names: bool = False
    example: str
    run: Callable[..., Outcome]
