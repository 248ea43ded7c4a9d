"""The seven actions that a run is made of, and their one-line text form.

A plan is a tuple of these. The same tuple is simulated, executed, explained and stored, so that
prediction and execution cannot drift apart. `format_actions` prints one action a line;
`parse_actions` reads them back. Read `schedule.py` next: it writes the compute-only list.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Tier = Literal["device", "host", "disk"]
Phase = Literal["forward", "backward", "gradient_norm", "evaluate", "unpack"]
UpdateKind = Literal["optimizer", "derive"]


@dataclass(frozen=True, slots=True)
class Acquire:
    """Make room for `region` at `offset_bytes` of `tier`'s arena; a compute action writes it."""

    region: str
    tier: Tier
    offset_bytes: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Start copying `region` from `source` to `offset_bytes` of `target`; returns at once."""

    region: str
    source: Tier
    target: Tier
    offset_bytes: int


@dataclass(frozen=True, slots=True)
class Compute:
    """Wait for the inputs, then run `phase` of `layer` on `micro_batch` on the compute thread."""

    layer: int
    phase: Phase
    micro_batch: int


@dataclass(frozen=True, slots=True)
class Update:
    """Make the compute weights of one span of a layer's state current.

    `optimizer` first applies the pending gradient to master and moments; `derive` only rounds the
    master.
    """

    layer: int
    span: int
    kind: UpdateKind


@dataclass(frozen=True, slots=True)
class WriteBack:
    """Start copying `region` from `source` to `target`; returns at once."""

    region: str
    source: Tier
    target: Tier


@dataclass(frozen=True, slots=True)
class Release:
    """Wait for transfers of `region`, then give its room on `tier` back."""

    region: str
    tier: Tier


@dataclass(frozen=True, slots=True)
class Commit:
    """Wait for every write of durable regions and make the step that they belong to current."""


Action = Acquire | Fetch | Compute | Update | WriteBack | Release | Commit
Work = Compute | Update
"""The actions that run on the compute thread; a compute-only list has nothing else."""


def format_action(action: Action) -> str:
    """Return the action as one line of text."""
    match action:
        case Acquire(region, tier, offset_bytes):
            return f"acquire {region} {tier} {offset_bytes}"
        case Fetch(region, source, target, offset_bytes):
            return f"fetch {region} {source} {target} {offset_bytes}"
        case Compute(layer, phase, micro_batch):
            return f"compute {layer} {phase} {micro_batch}"
        case Update(layer, span, kind):
            return f"update {layer} {span} {kind}"
        case WriteBack(region, source, target):
            return f"write_back {region} {source} {target}"
        case Release(region, tier):
            return f"release {region} {tier}"
        case Commit():
            return "commit"


def format_actions(actions: Iterable[Action]) -> str:
    """Return the actions, one a line."""
    return "".join(f"{format_action(action)}\n" for action in actions)


def parse_actions(text: str) -> tuple[Action, ...]:
    """Read what `format_actions` wrote.

    Raises:
        ValueError: a line is no action; the message has its number.
    """
    return tuple(parse_action(line, number) for number, line in enumerate(text.splitlines(), 1))


def parse_action(line: str, number: int) -> Action:
    """Read line `number` of a text, which is one action.

    Raises:
        ValueError: it is none; the message has its number.
    """
    try:
        return _parse_words(line.split())
    except ValueError as error:
        raise ValueError(f"line {number} is no action: {line!r}") from error


def _parse_words(words: list[str]) -> Action:
    match words:
        case ["acquire", region, tier, offset_bytes]:
            return Acquire(region, _tier(tier), int(offset_bytes))
        case ["fetch", region, source, target, offset_bytes]:
            return Fetch(region, _tier(source), _tier(target), int(offset_bytes))
        case ["compute", layer, phase, micro_batch] if phase in get_args(Phase):
            return Compute(int(layer), phase, int(micro_batch))  # type: ignore[arg-type]
        case ["update", layer, span, kind] if kind in get_args(UpdateKind):
            return Update(int(layer), int(span), kind)  # type: ignore[arg-type]
        case ["write_back", region, source, target]:
            return WriteBack(region, _tier(source), _tier(target))
        case ["release", region, tier]:
            return Release(region, _tier(tier))
        case ["commit"]:
            return Commit()
    raise ValueError("unknown action")


def _tier(word: str) -> Tier:
    if word not in get_args(Tier):
        raise ValueError(f"{word!r} is no tier")
    return word  # type: ignore[return-value]
