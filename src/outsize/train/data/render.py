"""Examples to text: what the model will read, and which of its characters are the answer.

Conversations go through the tokenizer's chat template, the rest is plain text that ends with the
end-of-text token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from outsize.errors import DataError
from outsize.train.data.chat import ChatRenderer, Span, answer_indices
from outsize.train.data.shapes import Chat, Completion, Example, Instruction, Text
from outsize.train.data.split_text import pieces

TrainOn = Literal["auto", "answer", "all"]

_ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """Text about to be tokenised.

    Attributes:
        text: a whole example, or a piece of a text document.
        spans: characters of the answers; None where all of it carries loss.
        is_chat: whether the template already wrote the special tokens at both ends.
        begins: False where it continues the piece before.
        ends: False where the next piece continues it.
    """

    text: str
    spans: tuple[Span, ...] | None
    is_chat: bool
    begins: bool = True
    ends: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A conversation that its template tokenised and marked: one mask value for each token."""

    input_ids: tuple[int, ...]
    mask: tuple[int, ...]


class Renderer:
    """Renders examples for one tokenizer and one choice of what carries loss."""

    def __init__(self, tokenizer: Any, train_on: TrainOn) -> None:
        self._chats = ChatRenderer(tokenizer)
        self._train_on = train_on

    def render(self, where: str, example: Example) -> Iterator[Rendered | Marked]:
        """Yield the example as text; a long document in pieces.

        Raises:
            DataError: there is no answer to learn, or no chat template that takes it.
        """
        match example:
            case Text():
                yield from self._text(where, example)
            case Completion(prompt=prompt, answer=answer):
                yield self._completion(prompt, answer)
            case Chat():
                yield self._chat(where, example)
            case Instruction() if self._chats.has_template:
                yield self._chat(where, _instruction_chat(example))
            case Instruction(instruction=instruction, input=context, output=output):
                form = _ALPACA_WITH_INPUT if context else _ALPACA
                yield self._completion(form.format(instruction=instruction, input=context), output)

    def _text(self, where: str, example: Text) -> Iterator[Rendered]:
        if self._train_on == "answer":
            raise DataError(f"{where}: plain text has no answer; --train-on answer needs one.")
        begins = example.begins
        for text, is_last in pieces([example.text]):
            ends = example.ends and is_last
            yield Rendered(text=text, spans=None, is_chat=False, begins=begins, ends=ends)
            begins = False

    def _completion(self, prompt: str, answer: str) -> Rendered:
        text = prompt + answer
        spans = None if self._train_on == "all" else ((len(prompt), len(text)),)
        return Rendered(text=text, spans=spans, is_chat=False)

    def _chat(self, where: str, chat: Chat) -> Rendered | Marked:
        if not self._chats.has_template:
            raise DataError(
                f"{where}: a conversation needs a chat template and the tokenizer has none; take "
                "the tokenizer of an instruction-tuned model with --tokenizer."
            )
        if self._train_on == "all":
            return Rendered(text=self._chats.render(where, chat), spans=None, is_chat=True)
        if not answer_indices(chat):
            raise DataError(
                f"{where}: no message of the assistant, so there is no answer to learn; "
                "--train-on all learns the whole conversation."
            )
        if self._chats.marks_answers(chat) and chat.first_answer == 0:
            input_ids, mask = self._chats.marked_tokens(where, chat)
            return Marked(input_ids=tuple(input_ids), mask=tuple(mask))
        text = self._chats.render(where, chat)
        spans = tuple(self._chats.answer_spans(where, chat, text))
        return Rendered(text=text, spans=spans, is_chat=True)


def _instruction_chat(example: Instruction) -> Chat:
    asked = "\n\n".join(part for part in (example.instruction, example.input) if part)
    return Chat(
        messages=(
            {"role": "user", "content": asked},
            {"role": "assistant", "content": example.output},
        )
    )
