"""A strict JSON reader that holds a small window of the text, for headers nobody vouches for.

`json.loads` on a hostile header of 100 MB builds gigabytes of objects before anyone can look at
them. This one hands out tokens, refuses what the caller did not ask for, and keeps at most one
token and a window of text in memory.
"""

import json
import re

from outsize.errors import FormatError
from outsize.formats.ranged import RangedFile

WINDOW_BYTES = 1 << 16
MAX_TOKEN_BYTES = 1 << 22
MAX_DEPTH = 64

_SPACE = re.compile(rb"[ \t\n\r]*+")
_TOKEN = re.compile(
    rb'"(?:[^"\\\x00-\x1f]|\\.)*+"|[{}\[\]:,]|-?\d++(?:\.\d++)?(?:[eE][+-]?\d++)?|true|false|null'
)
_INTEGER = re.compile(rb"0|[1-9]\d{0,18}")


class JsonScanner:
    """Reads tokens of the JSON text in one range of a file.

    Args:
        file: the file.
        offset: where the text starts.
        num_bytes: how long it is.
    """

    def __init__(self, file: RangedFile, offset: int, num_bytes: int) -> None:
        self._file = file
        self._next = offset
        self._end = offset + num_bytes
        self._window = bytearray()
        self._pos = 0

    def fail(self, problem: str) -> FormatError:
        """Return the error for a problem at the current place."""
        at = self._next - len(self._window) + self._pos
        return FormatError(f"{self._file.path} has a damaged JSON header at byte {at}: {problem}.")

    def peek(self) -> bytes:
        """Return the next byte that is not white space, without consuming it; empty at the end."""
        while True:
            match = _SPACE.match(self._window, self._pos)
            assert match is not None
            self._pos = match.end()
            if self._pos < len(self._window):
                return bytes(self._window[self._pos : self._pos + 1])
            if not self._refill():
                return b""

    def expect(self, punctuation: bytes) -> None:
        """Consume one punctuation byte."""
        if self.peek() != punctuation:
            raise self.fail(f"{punctuation.decode()!r} is expected")
        self._pos += 1

    def accept(self, punctuation: bytes) -> bool:
        """Consume one punctuation byte if it comes next."""
        if self.peek() != punctuation:
            return False
        self._pos += 1
        return True

    def string(self, max_chars: int = MAX_TOKEN_BYTES) -> str:
        """Consume a string of at most `max_chars` characters."""
        token = self._token()
        if token[:1] != b'"':
            raise self.fail("a string is expected")
        try:
            text = str(json.loads(token))
        except ValueError as error:
            raise self.fail("a string is not valid") from error
        if len(text) > max_chars:
            raise self.fail(f"a string has more than {max_chars} characters")
        return text

    def integer(self) -> int:
        """Consume a whole number from 0 to 19 digits."""
        token = self._token()
        if _INTEGER.fullmatch(token) is None:
            raise self.fail("a whole number is expected")
        return int(token)

    def integers(self, max_count: int) -> tuple[int, ...]:
        """Consume a list of at most `max_count` whole numbers."""
        self.expect(b"[")
        values: list[int] = []
        while not self.accept(b"]"):
            if values:
                self.expect(b",")
            if len(values) == max_count:
                raise self.fail(f"a list has more than {max_count} entries")
            values.append(self.integer())
        return tuple(values)

    def skip_value(self) -> None:
        """Consume any value, keeping nothing of it; commas inside are checked only loosely."""
        depth = 0
        while True:
            token = self._token()
            depth += (token in (b"{", b"[")) - (token in (b"}", b"]"))
            if depth > MAX_DEPTH or depth < 0 or (depth == 0 and token in (b",", b":")):
                raise self.fail("a value is expected")
            if depth == 0:
                return

    def finish(self) -> None:
        """Check that nothing follows but white space."""
        if self.peek():
            raise self.fail("text follows the end of the JSON object")

    def _token(self) -> bytes:
        self.peek()
        while True:
            match = _TOKEN.match(self._window, self._pos)
            complete = match is not None and (
                match.end() < len(self._window) or self._next == self._end
            )
            if match is not None and complete:
                self._pos = match.end()
                return match.group()
            if len(self._window) - self._pos > MAX_TOKEN_BYTES or not self._refill():
                raise self.fail("it is not JSON, or a value is too long")

    def _refill(self) -> bool:
        rest = self._window[self._pos :]
        count = min(max(WINDOW_BYTES, len(rest)), self._end - self._next)
        if count == 0:
            return False
        self._window = rest + self._file.read(self._next, count)
        self._pos = 0
        self._next += count
        return True
