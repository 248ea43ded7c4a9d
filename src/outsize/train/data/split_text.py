"""Long text in pieces that a tokenizer can take, so that no document is ever held whole.

A piece ends, where it can, after a line break that stands between two words: the tokenizers of the
GPT family never join across that place, so the tokens of the pieces are the tokens of the whole.
Nothing is lost in any case.
"""

from collections.abc import Iterable, Iterator

PIECE_CHARS = 1 << 17
"""Longest piece. A tokenizer needs about 100 bytes for each of its characters."""


def pieces(chunks: Iterable[str], piece_chars: int = PIECE_CHARS) -> Iterator[tuple[str, bool]]:
    """Yield (piece, whether it is the last one); joined, the pieces are the joined chunks.

    An empty text is one empty last piece.
    """
    pending = ""
    for chunk in chunks:
        pending += chunk
        while len(pending) > piece_chars:
            cut = _cut(pending, piece_chars)
            yield pending[:cut], False
            pending = pending[cut:]
    yield pending, True


def _cut(text: str, limit: int) -> int:
    """Return where to cut: before a line's first word, else after a word, else at `limit`."""
    for separator, offset in (("\n", 1), (" ", 0)):
        at = text.rfind(separator, limit // 2, limit)
        while at > 0:
            if not text[at - 1].isspace() and not text[at + 1].isspace():
                return at + offset
            at = text.rfind(separator, limit // 2, at)
    return limit
