"""Frozen records to JSON and back, where what comes back may be damaged or hostile.

A record is a frozen dataclass of numbers, texts, records and tuples of them, such as those of
`spec/machine.py`. Reading takes nothing on trust: every field is there, none is unknown, each has
its type, and every number is finite and in its range.
"""

import dataclasses
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")

MAY_BE_ZERO = frozenset(
    {"compute_loss_s_per_byte", "free_bytes", "forward_s", "backward_s", "unpack_s"}
)
"""Fields that may be 0; every other number is above it."""

_INTEGER_LIMIT = 2**63
_FLOAT_LIMIT = 1e24
"""Far beyond any machine; products of such numbers stay finite."""


class RecordError(ValueError):
    """What is read is no such record; says where in it and why."""


def to_json(record: Any) -> dict[str, Any]:
    """Return a record as what `json` writes: field names with their units, tuples as lists."""
    return dataclasses.asdict(record)


def from_json(record: type[Record], value: object, place: str = "") -> Record:
    """Read a record of the class `record`.

    Args:
        record: a frozen dataclass.
        value: what `json` read.
        place: name of the value inside the whole, for messages.

    Raises:
        RecordError: a field is missing, unknown, of another type or out of its range.
    """
    if not isinstance(value, dict):
        raise RecordError(f"{place or 'the content'} must be an object, but is {_short(value)}")
    hints = get_type_hints(record)
    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
    missing = [name for name in names if name not in value]
    if missing:
        raise RecordError(f"{_inside(place, missing[0])} is missing")
    extra = [name for name in value if name not in names]
    if extra:
        raise RecordError(f"{_inside(place, str(extra[0]))} is not known")
    return record(**{n: _read(hints[n], value[n], _inside(place, n), n) for n in names})


def _inside(place: str, name: str) -> str:
    name = name if name.isprintable() else ascii(name)
    return f"{place}.{name}" if place else name


def _read(hint: Any, value: object, place: str, name: str) -> object:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        hint = next(part for part in get_args(hint) if part is not type(None))
        return _read(hint, value, place, name)
    if origin is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise RecordError(f"{place} must be one of {choices}, but is {_short(value)}")
        return value
    if origin is tuple:
        return _read_items(get_args(hint)[0], value, place, name)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return from_json(hint, value, place)
    return _read_text(value, place) if hint is str else _read_number(hint, value, place, name)


def _read_items(hint: Any, value: object, place: str, name: str) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise RecordError(f"{place} must be a list, but is {_short(value)}")
    return tuple(_read(hint, item, f"{place}[{i}]", name) for i, item in enumerate(value))


def _read_text(value: object, place: str) -> str:
    # What is read here is shown on terminals: no control characters.
    if not isinstance(value, str) or not value or not value.isprintable():
        raise RecordError(f"{place} must be printable text, but is {_short(value)}")
    return value


def _read_number(hint: type, value: object, place: str, name: str) -> int | float:
    wanted = "a whole number" if hint is int else "a number"
    right = isinstance(value, int) if hint is int else isinstance(value, int | float)
    if not right or isinstance(value, bool):
        raise RecordError(f"{place} must be {wanted}, but is {_short(value)}")
    assert isinstance(value, int | float)
    limit = _INTEGER_LIMIT if isinstance(value, int) else _FLOAT_LIMIT
    if not abs(value) < limit:  # a NaN is not below anything
        raise RecordError(f"{place} must be a finite number below {limit:.0e}")
    if value < 0 or (value == 0 and name not in MAY_BE_ZERO):
        least = "at least 0" if name in MAY_BE_ZERO else "above 0"
        raise RecordError(f"{place} must be {least}, but is {value}")
    if name.endswith("_per_s") and value < 1:
        raise RecordError(f"{place} must be at least 1 a second, but is {value}")
    return int(value) if hint is int else float(value)


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
