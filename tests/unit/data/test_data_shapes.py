from typing import Any

import pytest

from outsize.errors import DataError
from outsize.train.data.record import Record
from outsize.train.data.shapes import (
    ACCEPTED,
    Chat,
    Completion,
    Instruction,
    Text,
    read_example,
    recognise,
)

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
W = "a.jsonl, line 3"


def record(**fields: Any) -> Record:
    return Record(where=W, fields=fields, done_bytes=0)


def read(**fields: Any):
    item = record(**fields)
    return read_example(item, recognise(item, None), None)


def message(**fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(**fields)
    return str(caught.value)


def test_text():
    assert read(text="a", id=3) == Text(text="a", begins=True, ends=True)


def test_text_of_another_field():
    item = record(body="a")
    assert recognise(item, "body") == "text"
    assert read_example(item, "text", "body") == Text(text="a", begins=True, ends=True)


def test_a_text_field_that_is_not_there():
    with pytest.raises(DataError) as caught:
        recognise(record(text="a", id=1), "body")
    assert str(caught.value) == (
        f"{W}: no field 'body' (--text-field); found the fields 'text', 'id'."
    )


def test_messages():
    assert read(messages=TURNS) == Chat(messages=tuple(TURNS))


def test_sharegpt_becomes_roles():
    turns = [
        {"from": "system", "value": "Be"},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Yo", "weight": 1},
    ]
    assert read(conversations=turns) == Chat(
        messages=(
            {"role": "system", "content": "Be"},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yo", "weight": 1},
        )
    )


def test_prompt_and_completion_as_text_and_as_messages():
    assert read(prompt="1+1=", completion="2") == Completion(prompt="1+1=", answer="2")
    assert read(prompt=TURNS[:1], completion=TURNS[1:]) == Chat(
        messages=tuple(TURNS), first_answer=1
    )


def test_alpaca_with_and_without_input():
    assert read(instruction="a", input="b", output="c") == Instruction(
        instruction="a", input="b", output="c"
    )
    assert read(instruction="a", input=None, output="c").input == ""
    assert read(instruction="a", output="c", text="a c").output == "c"


def test_parts_of_text_are_joined_and_tool_calls_need_no_text():
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    calls = [{"function": {"name": "f", "arguments": {}}}]
    chat = read(
        messages=[
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None, "tool_calls": calls},
        ],
        tools='[{"name": "f"}]',
    )
    assert chat.messages[0]["content"] == "Hi"
    assert chat.messages[1]["content"] == ""
    assert chat.messages[1]["tool_calls"] == calls
    assert chat.tools == ({"name": "f"},)


def test_unknown_fields_say_what_is_accepted():
    assert message(question="a", answer="b") == (
        f"{W}: found the fields 'question', 'answer'; {ACCEPTED}."
    )
    assert message() == f"{W}: found no fields; {ACCEPTED}."
    for word in ("text", "messages", "completion", "instruction", "conversations", "--text-field"):
        assert word in ACCEPTED


def test_mixed_shapes():
    with pytest.raises(DataError) as caught:
        read_example(record(text="a"), "messages", None)
    assert str(caught.value) == (
        f"{W}: a record of the shape 'text' where the first record has the shape 'messages'; "
        "mixed shapes cannot be told apart: give each shape its own run."
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": 3}, "field 'text' must be text; found int."),
        ({"text": None}, "field 'text' must be text; found null."),
        ({"text": "a\ud800"}, "field 'text' holds '\\ud800', which is no character."),
        ({"messages": "a"}, "field 'messages' must be a list of messages; found str."),
        ({"messages": []}, "field 'messages' is an empty list of messages."),
        ({"messages": ["a"]}, "field 'messages', message 1 must be an object; found str."),
        (
            {"messages": [TURNS[0], {"content": "a"}]},
            "field 'messages', message 2 must have 'role' and 'content', or 'from' and 'value'; "
            "found 'content'.",
        ),
        (
            {"messages": [{"role": "user", "content": 1}]},
            "field 'messages', message 1, 'content' must be text; found int.",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "field 'messages', message 1, 'content' may hold parts of the type 'text' only; "
            "found 'image'.",
        ),
        (
            {"conversations": [{"from": "gpt"}]},
            "field 'conversations', message 1, 'value' must be text; found null.",
        ),
        ({"messages": TURNS, "tools": "["}, "field 'tools' is malformed JSON: Expecting value."),
        ({"messages": TURNS, "tools": [1]}, "field 'tools' must be a list of objects."),
        (
            {"prompt": "a", "completion": 2},
            "fields 'prompt' and 'completion' must both be text or both be lists of messages; "
            "found str and int.",
        ),
        ({"instruction": "a", "output": 2}, "field 'output' must be text; found int."),
        ({"instruction": "a", "input": 2, "output": ""}, "field 'input' must be text; found int."),
    ],
)
def test_wrong_values_name_the_place_and_what_was_found(fields, expected):
    found = message(**fields)
    assert found.removeprefix(W).lstrip(":, ") == expected


def test_an_unknown_role_names_the_known_ones():
    found = message(messages=[{"role": "narrator", "content": "a"}])
    assert found.startswith(f"{W}: field 'messages', message 1 has the role 'narrator'; known are ")
    assert "human" in found
    assert "assistant" in found
