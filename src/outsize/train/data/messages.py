"""Conversations in the two spellings that data sets have, checked and made one.

`{"role": "user", "content": ...}` stays as it is; ShareGPT's `{"from": "human", "value": ...}`
    becomes it.
"""

import json
from collections.abc import Mapping
from typing import Any

from outsize.errors import DataError

Message = Mapping[str, Any]

ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""Names of roles in data sets, and the role that chat templates know."""


def read_messages(where: str, value: Any) -> tuple[Message, ...]:
    """Return a conversation as role/content messages.

    Raises:
        DataError: it is no list of messages, it is empty, or a message has no known role or no
            text.
    """
    if not isinstance(value, list):
        raise DataError(f"{where} must be a list of messages; found {type(value).__name__}.")
    if not value:
        raise DataError(f"{where} is an empty list of messages.")
    return tuple(
        _read_message(f"{where}, message {number}", message)
        for number, message in enumerate(value, start=1)
    )


def _read_message(where: str, message: Any) -> Message:
    if not isinstance(message, dict):
        raise DataError(f"{where} must be an object; found {type(message).__name__}.")
    for role_key, content_key in (("role", "content"), ("from", "value")):
        if role_key in message:
            others = {k: v for k, v in message.items() if k not in (role_key, content_key)}
            role = _read_role(where, message[role_key])
            has_calls = bool(message.get("tool_calls"))
            content = _read_content(where, content_key, message.get(content_key), has_calls)
            return {**others, "role": role, "content": content}
    names = ", ".join(repr(name) for name in message) or "nothing"
    raise DataError(
        f"{where} must have 'role' and 'content', or 'from' and 'value'; found {names}."
    )


def _read_role(where: str, role: Any) -> str:
    if isinstance(role, str) and role.lower() in ROLES:
        return ROLES[role.lower()]
    raise DataError(f"{where} has the role {role!r}; known are {', '.join(ROLES)}.")


def _read_content(where: str, key: str, content: Any, has_calls: bool) -> str:
    """Return the text of a message; parts of text are joined, tool calls alone have none."""
    if content is None and has_calls:
        return ""
    if isinstance(content, list):
        return "".join(_read_part(f"{where}, {key!r}", part) for part in content)
    return read_string(f"{where}, {key!r}", content)


def _read_part(where: str, part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        found = part.get("type") if isinstance(part, dict) else type(part).__name__
        raise DataError(f"{where} may hold parts of the type 'text' only; found {found!r}.")
    return read_string(where, part.get("text"))


def read_tools(where: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    """Return the tools that a conversation could call: a list of objects, or the same as JSON text.

    Raises:
        DataError: it is something else.
    """
    if value is None or value == "":
        return ()
    try:
        tools = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: field 'tools' is malformed JSON: {error.msg}.") from error
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(f"{where}: field 'tools' must be a list of objects.")
    return tuple(tools)


def read_string(where: str, value: Any) -> str:
    """Return a value that must be text.

    Raises:
        DataError: it is of another type, or holds half of a surrogate pair, which is no character.
    """
    if not isinstance(value, str):
        raise DataError(f"{where} must be text; found {_type_name(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} holds {value[error.start]!r}, which is no character.") from error
    return value


def _type_name(value: Any) -> str:
    return "null" if value is None else type(value).__name__
