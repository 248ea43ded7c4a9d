"""The one table of a verb's options, read from its dataclass: name, rule, default, help.

The dataclass is the only place where an option is written down; the command line, the YAML file and
the Python functions are made from it. Help texts are the `Attributes:` of the class. `values.py`
holds the rules themselves.
"""

import dataclasses
import difflib
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from outsize.errors import UsageError
from outsize.values import Kind, Range, Rule, convert

Record = TypeVar("Record")

_ATTRIBUTE = re.compile(r"^ {8}(\w+): (.*(?:\n {9,}.*)*)", re.MULTILINE)
_KINDS: dict[object, Kind] = {str: "text", int: "integer", float: "number", bool: "flag"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionField:
    """One option.

    Attributes:
        name: the field of the dataclass.
        key: what the user writes, with underscores: the name without its unit, `memory` for
            `memory_bytes`.
        rule: what it may hold.
        required: whether it has no default.
        default: value when it is not given.
        help: one sentence.
    """

    name: str
    key: str
    rule: Rule
    required: bool
    default: object
    help: str


def fields_of(record: type[Any]) -> tuple[OptionField, ...]:
    """List the options of a dataclass in their order; those marked `internal` are left out."""
    hints = get_type_hints(record, include_extras=True)
    texts = {
        name: " ".join(text.split())
        for base in reversed(record.__mro__)  # what is inherited is described where it is defined
        for name, text in _ATTRIBUTE.findall(base.__doc__ or "")
    }
    return tuple(
        OptionField(
            name=field.name,
            key=field.metadata.get("key", field.name.removesuffix("_bytes")),
            rule=_rule(field.name, hints[field.name]),
            required=field.default is dataclasses.MISSING,
            default=None if field.default is dataclasses.MISSING else field.default,
            help=texts.get(field.name, ""),
        )
        for field in dataclasses.fields(record)
        if not field.metadata.get("internal")
    )


def _rule(name: str, hint: Any) -> Rule:
    if get_origin(hint) in (Union, types.UnionType):
        inner = [part for part in get_args(hint) if part is not type(None)]
        return dataclasses.replace(_rule(name, inner[0]), optional=True)
    if get_origin(hint) is Annotated:
        bounds = next(part for part in hint.__metadata__ if isinstance(part, Range))
        return dataclasses.replace(_rule(name, get_args(hint)[0]), range=bounds)
    if get_origin(hint) is Literal:
        return Rule(kind="choice", choices=get_args(hint))
    if get_origin(hint) is tuple:
        return Rule(kind="list", choices=get_args(get_args(hint)[0]))
    return Rule(kind="size" if name.endswith("_bytes") else _KINDS[hint])


def build(record: type[Record], settings: Mapping[str, object]) -> Record:
    """Make a record of options from what the user gave.

    Args:
        record: the dataclass; when it has an internal field `given`, that receives the names that
            were given.
        settings: values by key, as text or as YAML or Python gave them.

    Raises:
        UsageError: an unknown key (with what was probably meant), a missing one, or a wrong value.
    """
    by_key = {field.key: field for field in fields_of(record)}
    for key in settings:
        if key not in by_key:
            raise unknown("option", key, by_key)
    missing = [
        field.key for field in by_key.values() if field.required and field.key not in settings
    ]
    if missing:
        key = missing[0]
        raise UsageError(f"{key} is missing ({by_key[key].help.rstrip('.')}).")
    values: dict[str, Any] = {
        by_key[key].name: convert(key, by_key[key].rule, value) for key, value in settings.items()
    }
    if any(field.name == "given" for field in dataclasses.fields(record)):  # type: ignore[arg-type]
        values["given"] = frozenset(values)
    return record(**values)


def check(record: object) -> None:
    """Refuse wrong values in a record that was made directly; called from its `__post_init__`.

    Raises:
        UsageError: a value is of another type, or out of range.
    """
    for field in fields_of(type(record)):
        value = getattr(record, field.name)
        if convert(field.key, field.rule, value) != value:
            raise UsageError(f"{field.key} must be {field.rule}; got {value!r}.")


def unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    """Make the error for a name that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    return UsageError(f"There is no {what} {name!r}.{hint}")
