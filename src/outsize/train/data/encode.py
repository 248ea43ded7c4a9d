"""Rendered examples to token ids and labels, in batches.

A label is the token to be predicted at its place, already shifted by one; `IGNORED` says that no
loss is taken there. `pack.py` puts the chunks into rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from outsize.train.data.chat import Span
from outsize.train.data.render import Marked, Rendered, Renderer, TrainOn
from outsize.train.data.shapes import Example
from outsize.train.data.split_text import PIECE_CHARS

IGNORED = -100
"""The label that PyTorch's cross-entropy leaves out."""

Int32Array = npt.NDArray[np.int32]

_BATCH_EXAMPLES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Tokens of a document, all of it or the next part.

    Attributes:
        input_ids: [n] token ids.
        labels: [n] token to be predicted at each place, or `IGNORED`.
        begins: whether a document begins here; otherwise the last one goes on.
    """

    input_ids: Int32Array
    labels: Int32Array
    begins: bool


class Encoder:
    """Turns examples into chunks with one tokenizer.

    Attributes:
        num_empty: documents without any token so far; they yield no chunk.
    """

    def __init__(self, tokenizer: Any, train_on: TrainOn) -> None:
        self._tokenizer = tokenizer
        self._renderer = Renderer(tokenizer, train_on)
        self._prefix = _leading_tokens(tokenizer)
        self._eos = int(tokenizer.eos_token_id)
        self._held = np.empty(0, np.int32)
        self.num_empty = 0

    def encode(self, examples: Iterable[tuple[str, Example]]) -> Iterator[Chunk]:
        """Yield the (where, example) pairs as chunks, in order.

        Raises:
            DataError: an example cannot be rendered or has no answer.

        Cost: the tokens of about `PIECE_CHARS` characters, or of the longest conversation.
        """
        rendered = (part for where, e in examples for part in self._renderer.render(where, e))
        for batch in _batches(rendered):
            yield from self._encode_batch(batch)

    def _encode_batch(self, batch: Sequence[Rendered | Marked]) -> Iterator[Chunk]:
        texts = [part.text for part in batch if isinstance(part, Rendered)]
        encoded = self._tokenize(texts) if texts else {"input_ids": [], "offset_mapping": []}
        tokens = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        for part in batch:
            match part:
                case Marked(input_ids=input_ids, mask=mask):
                    yield _whole(np.array(input_ids, np.int32), np.array(mask, bool))
                case Rendered(is_chat=True, spans=spans):
                    input_ids, offsets = next(tokens)
                    yield _whole(np.array(input_ids, np.int32), _mask(offsets, spans))
                case Rendered():
                    yield from self._plain(part, *next(tokens))

    def _tokenize(self, texts: list[str]) -> Any:
        return self._tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=True,
            verbose=False,
        )

    def _plain(self, part: Rendered, tokens: list[int], offsets: list[Span]) -> Iterator[Chunk]:
        """Add the special tokens of a document; the last token waits for a piece that follows."""
        if part.begins and part.ends and not tokens:
            self.num_empty += 1
            return
        mask = _mask(offsets, part.spans)
        prefix = self._prefix if part.begins else []
        ended = bool(tokens) and tokens[-1] == self._eos
        suffix = [self._eos] if part.ends and not ended else []
        input_ids = np.array([*self._held, *prefix, *tokens, *suffix], np.int32)
        lengths = len(self._held) + len(prefix), len(suffix)
        mask = np.concatenate(
            (np.full(lengths[0], part.spans is None), mask, np.ones(lengths[1], bool))
        )
        chunk = _whole(input_ids, mask, begins=part.begins)
        if part.ends:
            self._held = np.empty(0, np.int32)
            yield chunk
            return
        self._held = input_ids[-1:]
        yield Chunk(input_ids=input_ids[:-1], labels=chunk.labels[:-1], begins=part.begins)


def _whole(input_ids: Int32Array, mask: npt.NDArray[np.bool_], begins: bool = True) -> Chunk:
    """Shift: the label of a place is the next token, if the mask says that it carries loss."""
    labels = np.full(len(input_ids), IGNORED, np.int32)
    labels[:-1] = np.where(mask[1:], input_ids[1:], IGNORED)
    return Chunk(input_ids=input_ids, labels=labels, begins=begins)


def _mask(offsets: list[Span], spans: Sequence[Span] | None) -> npt.NDArray[np.bool_]:
    """Return for each token whether it stands for a character of an answer."""
    if spans is None:
        return np.ones(len(offsets), bool)
    begin, end = np.array(offsets, np.int64).reshape(-1, 2).T
    mask = np.zeros(len(offsets), bool)
    for first, last in spans:
        mask |= (end > first) & (begin < last) & (end > begin)
    return mask


def _batches(rendered: Iterable[Rendered | Marked]) -> Iterator[list[Rendered | Marked]]:
    """Group what is tokenised together: work for all threads, bounded in characters."""
    batch: list[Rendered | Marked] = []
    num_chars = 0
    for part in rendered:
        batch.append(part)
        num_chars += len(part.text) if isinstance(part, Rendered) else len(part.input_ids)
        if num_chars >= PIECE_CHARS or len(batch) == _BATCH_EXAMPLES:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _leading_tokens(tokenizer: Any) -> list[int]:
    """Return what the tokenizer puts before a document: nothing, or the begin-of-text token."""
    framed = tokenizer("a")["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return list(framed[:start])
    return []
