from dataclasses import dataclass, field
from typing import Literal

import pytest

from outsize.errors import UsageError
from outsize.fields import build, check, fields_of
from outsize.values import Count, Decay, Positive, Rule, convert


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """Options.

    Attributes:
        name: a name; `this` is
            explained over two lines.
        memory_bytes: a size.
        rate: a number.
        kind: a choice.
        parts: a list.
        on: a flag.
        beta: a decay.
        count: a count.
    """

    name: str
    memory_bytes: int | None = None
    rate: Positive = 1.0
    kind: Literal["a", "b"] = "a"
    parts: tuple[Literal["x", "y"], ...] = ("x",)
    on: bool = False
    beta: Decay = 0.9
    count: Count | None = None
    given: frozenset[str] = field(default=frozenset(), metadata={"internal": True})

    def __post_init__(self) -> None:
        check(self)


def test_fields_are_read_from_the_class_and_its_docstring() -> None:
    by_name = {f.name: f for f in fields_of(_Options)}
    assert "given" not in by_name
    assert by_name["name"].help == "a name; `this` is explained over two lines."
    assert by_name["name"].required
    assert by_name["memory_bytes"].key == "memory"
    assert by_name["memory_bytes"].rule == Rule(kind="size", optional=True)
    assert by_name["parts"].rule == Rule(kind="list", choices=("x", "y"))


def test_text_becomes_values_and_what_was_given_is_known() -> None:
    options = build(
        _Options,
        {
            "name": "n",
            "memory": "1KiB",
            "rate": "5e-5",
            "parts": "y,x",
            "on": "true",
            "count": "1e3",
        },
    )
    assert options == _Options(
        name="n",
        memory_bytes=1024,
        rate=5e-5,
        parts=("y", "x"),
        on=True,
        count=1000,
        given=frozenset({"name", "memory_bytes", "rate", "parts", "on", "count"}),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"^name is missing \(a name; `this` is explained over two lines\)\.$"),
        ({"name": "n", "memry": "1GiB"}, r"^There is no option 'memry'\. Did you mean memory\?$"),
        ({"name": "n", "qqq": 1}, r"^There is no option 'qqq'\.$"),
        ({"name": ""}, r"^name must be text that is not empty; got ''\.$"),
        ({"name": "n", "memory": "much"}, r"^memory must be a size \(a size is .*; got 'much'\.$"),
        ({"name": "n", "memory": 1.5}, r"^memory must be a size .*; got 1\.5\.$"),
        ({"name": "n", "rate": "fast"}, r"^rate must be a number above 0 .*; got 'fast'\.$"),
        ({"name": "n", "rate": 0}, r"^rate must be a number above 0 .*; got 0\.$"),
        ({"name": "n", "rate": "nan"}, r"^rate must be a number above 0 .*; got 'nan'\.$"),
        ({"name": "n", "rate": True}, r"^rate must be a number above 0 .*; got True\.$"),
        ({"name": "n", "rate": None}, r"^rate must be a number above 0 .*; got None\.$"),
        ({"name": "n", "kind": "c"}, r"^kind must be one of a, b; got 'c'\.$"),
        ({"name": "n", "parts": "x,z"}, r"^parts must be one or more of x, y; got 'x,z'\.$"),
        ({"name": "n", "parts": "x,x"}, r"^parts must be one or more of x, y; got 'x,x'\.$"),
        ({"name": "n", "on": "maybe"}, r"^on must be true or false; got 'maybe'\.$"),
        ({"name": "n", "beta": 1}, r"^beta must be a number of at least 0 and below 1; got 1\.$"),
        ({"name": "n", "count": 0}, r"^count must be a whole number of at least 1 .*; got 0\.$"),
        ({"name": "n", "rate": 1e16}, r"^rate must be a number above 0 and of at most 1e\+15; got"),
        ({"name": "n", "count": 10**11}, r"^count must .* of at most 1e\+10; got 100000000000\.$"),
        ({"name": "n", "count": "1.5"}, r"^count must be a whole number .*; got '1\.5'\.$"),
    ],
)
def test_wrong_settings_are_named_with_what_is_right(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build(_Options, settings)


def test_a_record_made_directly_is_checked_too() -> None:
    with pytest.raises(UsageError, match="memory must be a size"):
        _Options(name="n", memory_bytes="1GiB")  # type: ignore[arg-type]


def test_a_number_in_yaml_can_be_a_name() -> None:
    assert convert("output", Rule(kind="text"), 2024) == "2024"
