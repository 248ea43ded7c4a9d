"""JSON values out of a file: an array of records, or records one after the other.

The file is never held whole, only the record that is being read.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outsize.errors import DataError
from outsize.train.data.decode import decoded_chunks

RECORD_CHARS = 1 << 26
"""Longest record; a broken file is given up on after as many characters, not at its end."""

_BLANK = re.compile(r"\s*")


class JsonStream:
    """Reads the values of one file.

    Cost: a few times `CHUNK_BYTES` or the longest record, whichever is more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks = decoded_chunks(path)
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._line = 1
        self._at_end = False
        self.done_bytes = 0

    def values(self) -> Iterator[tuple[int, Any]]:
        """Yield (line that the value begins at, value).

        Raises:
            DataError: the file is no JSON; names the line.
        """
        is_array = self._take("[")
        if is_array and self._take("]"):
            return self._finish()
        while self._peek():
            line = self._line
            yield line, self._value()
            if not is_array or self._take(","):
                continue
            if self._take("]"):
                return self._finish()
            raise self._malformed(self._line, "a comma or ] is missing after a record")
        if is_array:
            raise self._malformed(self._line, "the array is not closed")
        return None

    def _finish(self) -> None:
        if self._peek():
            raise self._malformed(self._line, "something follows the closing ]")

    def _peek(self) -> str:
        """Skip white space, reading on, and return the next character; nothing at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            assert blank is not None
            self._move(blank.end())
            if self._at < len(self._text) or self._at_end:
                return self._text[self._at : self._at + 1]
            self._read_on()

    def _take(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._at += 1
        return True

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                pending = len(self._text) - self._at
                if self._at_end or pending > RECORD_CHARS:
                    line = self._line + self._text.count("\n", self._at, error.pos)
                    raise self._malformed(line, error.msg) from error
            except RecursionError as error:
                raise self._malformed(self._line, "it is nested too deeply") from error
            else:
                if end < len(self._text) or self._at_end:
                    self._move(end)
                    return value
            self._read_on(at_least=len(self._text) - self._at)

    def _move(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _read_on(self, at_least: int = 1) -> None:
        """Drop what was used and append `at_least` so many characters, unless the file ends."""
        parts = [self._text[self._at :]]
        added = 0
        while added < at_least:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._at_end = True
                break
            parts.append(chunk[0])
            added += len(chunk[0])
            self.done_bytes = chunk[1]
        self._text, self._at = "".join(parts), 0

    def _malformed(self, line: int, reason: str) -> DataError:
        return DataError(f"{self._path}, line {line}: malformed JSON: {reason}.")
