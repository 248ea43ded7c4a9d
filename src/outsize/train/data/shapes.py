"""What a record is: plain text, a conversation, a prompt with its completion, or an instruction.

The shape is recognised from the names of the fields of the first record and must be the same in
every other. Where names of several shapes are there, the one that says most about roles wins, in
the order of `SHAPES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from outsize.errors import DataError
from outsize.train.data.messages import Message, read_messages, read_string, read_tools
from outsize.train.data.record import Record

Shape = Literal["messages", "sharegpt", "prompt/completion", "alpaca", "text"]

SHAPES: dict[Shape, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt/completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "text": ("text",),
}
"""The fields that make a shape."""

ACCEPTED = (
    'accepted are text {"text"}, messages {"messages": [{"role", "content"}, ...]}, '
    'prompt and completion {"prompt", "completion"}, Alpaca {"instruction", "input", "output"} and '
    'ShareGPT {"conversations": [{"from", "value"}, ...]}; --text-field names another field of text'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Text to learn whole, or a piece of it, as `begins` and `ends` say."""

    text: str
    begins: bool
    ends: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Plain text in two parts, of which the second is the answer."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation; assistant messages from number `first_answer` on are answers."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    first_answer: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """An Alpaca record: what to do, an input that may be empty, and the answer."""

    instruction: str
    input: str
    output: str


Example = Text | Completion | Chat | Instruction


def columns_of_interest(text_field: str | None) -> frozenset[str]:
    """Return every field that a shape reads."""
    known = {field for fields in SHAPES.values() for field in fields} | {"input", "tools"}
    return frozenset(known if text_field is None else known | {text_field})


def recognise(record: Record, text_field: str | None) -> Shape:
    """Return the shape of a record.

    Raises:
        DataError: it has the fields of no shape; says which it has and which are accepted.
    """
    if text_field is not None:
        if text_field in record.fields:
            return "text"
        raise DataError(
            f"{record.where}: no field {text_field!r} (--text-field); found {_fields(record)}."
        )
    for shape, fields in SHAPES.items():
        if all(field in record.fields for field in fields):
            return shape
    raise DataError(f"{record.where}: found {_fields(record)}; {ACCEPTED}.")


def read_example(record: Record, shape: Shape, text_field: str | None) -> Example:
    """Return what a record means.

    Raises:
        DataError: the record is of another shape than `shape`, or a field is of a wrong type.
    """
    found = recognise(record, text_field)
    if found != shape:
        raise DataError(
            f"{record.where}: a record of the shape {found!r} where the first record has the shape "
            f"{shape!r}; mixed shapes cannot be told apart: give each shape its own run."
        )
    match shape:
        case "text":
            text = _string(record, text_field or "text")
            return Text(text=text, begins=record.begins, ends=record.ends)
        case "messages":
            return _chat(record, "messages")
        case "sharegpt":
            return _chat(record, "conversations")
        case "alpaca":
            return Instruction(
                instruction=_string(record, "instruction"),
                input=_string(record, "input") if record.fields.get("input") else "",
                output=_string(record, "output"),
            )
        case "prompt/completion":
            return _completion(record)


def _chat(record: Record, field: str) -> Chat:
    messages = read_messages(f"{record.where}: field {field!r}", record.fields[field])
    return Chat(messages=messages, tools=read_tools(record.where, record.fields.get("tools")))


def _completion(record: Record) -> Chat | Completion:
    prompt, completion = record.fields["prompt"], record.fields["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return Completion(prompt=_string(record, "prompt"), answer=_string(record, "completion"))
    if not isinstance(prompt, list) or not isinstance(completion, list):
        raise DataError(
            f"{record.where}: fields 'prompt' and 'completion' must both be text or both be lists "
            f"of messages; found {type(prompt).__name__} and {type(completion).__name__}."
        )
    asked = read_messages(f"{record.where}: field 'prompt'", prompt)
    answered = read_messages(f"{record.where}: field 'completion'", completion)
    tools = read_tools(record.where, record.fields.get("tools"))
    return Chat(messages=asked + answered, tools=tools, first_answer=len(asked))


def _string(record: Record, field: str) -> str:
    return read_string(f"{record.where}: field {field!r}", record.fields[field])


def _fields(record: Record) -> str:
    names = ", ".join(repr(name) for name in record.fields)
    return f"the fields {names}" if names else "no fields"
