"""What an option may hold, and how text, YAML and Python values become it.

One function, `convert`, reads a value wherever it comes from, so that the command line, a YAML file
and a Python call refuse the same things in the same words. `fields.py` says which rule belongs to
which option.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from outsize.errors import UsageError
from outsize.quantities import SIZE_RULE, parse_bytes

Kind = Literal["text", "integer", "number", "size", "flag", "choice", "list"]

PackedAttention = Literal["masked", "split"]
"""How attention keeps the examples of a row apart: by a mask, or by taking one at a time."""

MethodType = Literal["auto", "full", "lora", "dora", "qlora"]
"""What is trained: the weights themselves, or adapters beside them, with a magnitude each, or over
packed weights; `auto` is the first of `full`, `lora` and `qlora` that the budgets allow.
"""

Packing = Literal["nf4", "int8"]
"""How frozen matrices are packed: into 4 bits of levels for normal numbers, or 8 bits."""

MomentBits = Literal[32, 8]
"""Bits of each number that an optimizer remembers."""

OptimizerName = Literal["adamw", "lion", "sgd"]

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Bounds of a number; None leaves that side open.

    Attributes:
        minimum: smallest value that is allowed.
        above: the value must be larger than this.
        maximum: largest value that is allowed.
        below: the value must be smaller than this.
    """

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Tell whether `value` lies inside."""
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        words = (
            ("of at least", self.minimum),
            ("above", self.above),
            ("of at most", self.maximum),
            ("below", self.below),
        )
        return " and ".join(f"{word} {bound:g}" for word, bound in words if bound is not None)


MOST_COUNT = 10**10
"""More than any number of steps, tokens or rows that can be meant; sizes that are worked out from
it still fit 64 bits.
"""

MOST_NUMBER = 1e15
"""More than any number of epochs or seconds that can be meant; products of it stay finite."""

Count = Annotated[int, Range(minimum=1, maximum=MOST_COUNT)]
CountOrZero = Annotated[int, Range(minimum=0)]
Positive = Annotated[float, Range(above=0, maximum=MOST_NUMBER)]
NonNegative = Annotated[float, Range(minimum=0, maximum=MOST_NUMBER)]
Decay = Annotated[float, Range(minimum=0, below=1)]
Fraction = Annotated[float, Range(minimum=0, below=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one option may hold.

    Attributes:
        kind: how the value is read.
        choices: the allowed values of a `choice`, or of each part of a `list`.
        range: bounds of an `integer` or a `number`; None when any will do.
        optional: whether None is allowed.
    """

    kind: Kind
    choices: tuple[str, ...] = ()
    range: Range | None = None
    optional: bool = False

    def __str__(self) -> str:
        bounds = f" {self.range}" if self.range else ""
        match self.kind:
            case "integer":
                return f"a whole number{bounds}"
            case "number":
                return f"a number{bounds}"
            case "flag":
                return "true or false"
            case "choice":
                return "one of " + ", ".join(self.choices)
            case "list":
                return "one or more of " + ", ".join(self.choices)
            case "size":
                return f"a size ({SIZE_RULE})"
            case "text":
                return "text that is not empty"


def convert(key: str, rule: Rule, value: object) -> object:
    """Read `value` by `rule`.

    Args:
        key: the option's name, for the message.
        rule: what it may hold.
        value: text from the command line, or whatever YAML or Python gave.

    Raises:
        UsageError: the value is of another type, or out of range.
    """
    if value is None and rule.optional:
        return None
    try:
        result = _read(rule, value)
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"{key} must be {rule}; got {value!r}.") from error
    if rule.range is not None and isinstance(result, int | float) and not rule.range.holds(result):
        raise UsageError(f"{key} must be {rule}; got {value!r}.")
    return result


def _read(rule: Rule, value: object) -> object:
    match rule.kind:
        case "flag":
            return _read_flag(value)
        case "integer":
            return _read_integer(value)
        case "number":
            return _read_number(value)
        case "size":
            return parse_bytes(value if isinstance(value, str) else str(_read_integer(value)))
        case "list":
            return _read_list(rule, value)
        case "choice" | "text":
            return _read_text(rule, value)


def _read_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word not in _TRUE + _FALSE:
        raise ValueError(word)
    return word in _TRUE


def _read_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(type(value))
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _read_integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lstrip("+-").replace("_", "").isdecimal():
        return int(value)
    number = _read_number(value)  # 1e3 is a whole number too
    if not number.is_integer():
        raise ValueError(value)
    return int(number)


def _read_list(rule: Rule, value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not parts:
        raise TypeError(type(value))
    words = tuple(str(part).strip() for part in parts)
    if len(set(words)) != len(words) or not set(words) <= set(rule.choices):
        raise ValueError(value)
    return words


def _read_text(rule: Rule, value: object) -> str:
    # YAML reads a folder called 2024 as a number; what is meant is its name.
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise TypeError(type(value))
    text = str(value)
    if rule.choices and text not in rule.choices:
        raise ValueError(value)
    return text
