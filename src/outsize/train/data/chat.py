"""A conversation as one text with the spans of its answers, found exactly.

The whole conversation is rendered and tokenised at once, so that the tokens are those that the
model sees. An answer is the part of the rendering that the template adds when the assistant speaks:
it begins where the prompt for it would have ended and ends with its end-of-turn token. Nothing is
guessed; a template that renders no conversation as the continuation of a shorter one is refused, or
says itself what it generates (`{% generation %}`), which `encode.py` uses.
"""

import re
from collections.abc import Sequence
from typing import Any

from outsize.errors import DataError
from outsize.train.data.messages import Message
from outsize.train.data.shapes import Chat

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

Span = tuple[int, int]


class ChatRenderer:
    """Renders conversations with the chat template of a tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = tuple(sorted(tokenizer.get_added_vocab(), key=len, reverse=True))

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer has a chat template at all."""
        return self._tokenizer.chat_template is not None

    def marks_answers(self, chat: Chat) -> bool:
        """Return whether the template says itself which part the assistant generates."""
        template = self._tokenizer.get_chat_template(tools=list(chat.tools) or None)
        return _GENERATION.search(template) is not None

    def marked_tokens(self, where: str, chat: Chat) -> tuple[list[int], list[int]]:
        """Return token ids and a 0/1 mask of the answers, as the template marks them."""
        encoded = self._apply(where, chat.messages, chat, tokenize=True)
        return encoded["input_ids"], encoded["assistant_masks"]

    def render(self, where: str, chat: Chat) -> str:
        """Return the whole conversation as text."""
        return str(self._apply(where, chat.messages, chat))

    def answer_spans(self, where: str, chat: Chat, text: str) -> list[Span]:
        """Return the character spans of the answers in `text`, which `render` returned.

        Raises:
            DataError: the answers cannot be told apart in what the template renders.

        Cost: three renderings of the conversation for each answer.
        """
        spans = []
        for index in answer_indices(chat):
            start = self._answer_start(where, chat, text, index)
            end = self._answer_end(where, chat, text, index)
            if not start <= end:
                raise _ambiguous(where, index)
            spans.append((start, self._end_of_turn(text, start, end)))
        return spans

    def _answer_start(self, where: str, chat: Chat, text: str, index: int) -> int:
        if index > 0:
            prompt = self._apply(where, chat.messages[:index], chat, generation_prompt=True)
            if not text.startswith(prompt):
                raise _ambiguous(where, index)
            return len(prompt)
        first = chat.messages[:1]
        without = self._apply(where, first, chat)
        with_prompt = self._apply(where, first, chat, generation_prompt=True)
        opening = with_prompt[len(without) :] if with_prompt.startswith(without) else ""
        at = text.find(opening)
        if not opening or at < 0:
            raise _ambiguous(where, index)
        return int(at + len(opening))

    def _answer_end(self, where: str, chat: Chat, text: str, index: int) -> int:
        if index == len(chat.messages) - 1:
            return len(text)
        until = self._apply(where, chat.messages[: index + 1], chat)
        if text.startswith(until):
            return len(until)
        return self._end_before_next(where, chat, text, index)

    def _end_before_next(self, where: str, chat: Chat, text: str, index: int) -> int:
        """Take the next turn off the end: some templates render the newest answer differently."""
        before, following = chat.messages[:index], chat.messages[index + 1]
        if not before:
            raise _ambiguous(where, index)
        without = self._apply(where, before, chat)
        with_next = self._apply(where, (*before, following), chat)
        until_next = self._apply(where, chat.messages[: index + 2], chat)
        turn = with_next[len(without) :]
        exact = with_next.startswith(without) and until_next.endswith(turn)
        if not turn or not exact or not text.startswith(until_next):
            raise _ambiguous(where, index)
        return len(until_next) - len(turn)

    def _end_of_turn(self, text: str, start: int, end: int) -> int:
        """Leave out white space behind the end-of-turn token: generation has stopped before it."""
        stripped = text[start:end].rstrip()
        return start + len(stripped) if stripped.endswith(self._special) else end

    def _apply(
        self,
        where: str,
        messages: Sequence[Message],
        chat: Chat,
        *,
        generation_prompt: bool = False,
        tokenize: bool = False,
    ) -> Any:
        from jinja2 import TemplateError

        try:
            return self._tokenizer.apply_chat_template(
                list(messages),
                tools=list(chat.tools) or None,
                add_generation_prompt=generation_prompt,
                tokenize=tokenize,
                return_dict=tokenize,
                return_assistant_tokens_mask=tokenize,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise DataError(
                f"{where}: the chat template does not take this conversation: {error}."
            ) from error


def answer_indices(chat: Chat) -> list[int]:
    """Return the numbers of the messages that are answers."""
    roles = enumerate(message["role"] for message in chat.messages)
    return [index for index, role in roles if role == "assistant" and index >= chat.first_answer]


def _ambiguous(where: str, index: int) -> DataError:
    return DataError(
        f"{where}: the chat template renders message {index + 1} so that its answer cannot be "
        "told from the rest; mark it with {% generation %} in the template, or use --train-on all."
    )
