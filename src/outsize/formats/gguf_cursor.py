"""Reads the binary words of a GGUF header, each checked against the size of the file first.

A window of 64 KiB is all it holds, so that walking over half a million token strings costs no
memory. Read `gguf_header.py` next.
"""

import struct

from outsize.errors import FormatError
from outsize.formats.ranged import RangedFile

_LENGTH = struct.Struct("<Q")
WINDOW_BYTES = 1 << 16
MAX_TAKE_BYTES = 1 << 16


class GgufCursor:
    """A place in a GGUF file that only moves forward.

    Args:
        file: the file.
        max_bytes: how far the cursor may go.
    """

    def __init__(self, file: RangedFile, max_bytes: int) -> None:
        self._file = file
        self._end = min(file.num_bytes, max_bytes)
        self._window = bytearray()
        self._window_start = 0
        self.offset = 0

    def fail(self, problem: str) -> FormatError:
        """Return the error for a problem at the current place."""
        return FormatError(
            f"{self._file.path} has a damaged GGUF header at byte {self.offset}: {problem}."
        )

    def remaining_bytes(self) -> int:
        """Return how many bytes a header may still have."""
        return self._end - self.offset

    def take(self, num_bytes: int) -> bytes:
        """Consume at most `MAX_TAKE_BYTES` bytes."""
        self._check(num_bytes)
        if num_bytes > MAX_TAKE_BYTES:
            raise self.fail(f"a value of {num_bytes} bytes is too long")
        begin = self.offset - self._window_start
        if begin + num_bytes > len(self._window):
            count = min(max(WINDOW_BYTES, num_bytes), self._end - self.offset)
            self._window = self._file.read(self.offset, count)
            self._window_start = self.offset
            begin = 0
        self.offset += num_bytes
        return bytes(self._window[begin : begin + num_bytes])

    def skip(self, num_bytes: int) -> None:
        """Pass over bytes without reading them."""
        self._check(num_bytes)
        self.offset += num_bytes
        if self.offset > self._window_start + len(self._window):
            self._window = bytearray()
            self._window_start = self.offset

    def skip_texts(self, count: int) -> None:
        """Pass over strings, each after its length, without decoding them.

        A vocabulary has some hundred thousand, so those that lie whole in the window are passed
        over by arithmetic alone.
        """
        while count:
            self.skip(self.count())
            count -= 1
            at, end = self.offset - self._window_start, len(self._window) - _LENGTH.size
            while count and at <= end:
                at += _LENGTH.size + _LENGTH.unpack_from(self._window, at)[0]
                if at > end + _LENGTH.size:
                    break
                self.offset = self._window_start + at
                count -= 1

    def word(self, code: str) -> int | float | bool:
        """Consume one little-endian number with a `struct` code."""
        value: int | float | bool = struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]
        return value

    def count(self, code: str = "Q") -> int:
        """Consume one unsigned whole number."""
        return int(self.word(code))

    def text(self, num_bytes: int) -> str:
        """Consume that many bytes of UTF-8."""
        try:
            return self.take(num_bytes).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail("a string is not UTF-8") from error

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self.remaining_bytes():
            raise self.fail(
                f"{num_bytes} bytes are claimed, {self.remaining_bytes()} can follow; "
                "the file is truncated or lies"
            )
