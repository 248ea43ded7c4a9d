"""How far the preparation is: one line that is overwritten on a terminal, else one every 10 s."""

import time
from collections.abc import Callable
from typing import TextIO

from outsize.quantities import format_bytes, format_seconds

_TERMINAL_INTERVAL_S = 0.2
_FILE_INTERVAL_S = 10.0


class Progress:
    """Says how many records are read and the time left.

    Args:
        stream: where to write.
        total_bytes: bytes to read; None or 0 where it is not known.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        stream: TextIO,
        total_bytes: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._total_bytes = total_bytes
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._interval_s = _TERMINAL_INTERVAL_S if self._is_terminal else _FILE_INTERVAL_S
        self._start_s = self._last_s = clock()

    def advance(self, done_bytes: int, num_records: int) -> None:
        """Show the state if the last line is old enough."""
        now_s = self._clock()
        if now_s - self._last_s < self._interval_s:
            return
        self._last_s = now_s
        text = f"tokenising: {num_records:,} records"
        if self._total_bytes and done_bytes:
            left_s = (now_s - self._start_s) * (self._total_bytes - done_bytes) / done_bytes
            total = format_bytes(self._total_bytes)
            text += f", {format_bytes(done_bytes)} of {total}, {format_seconds(left_s)} left"
        self._stream.write(f"\r\x1b[K{text}" if self._is_terminal else f"{text}\n")
        self._stream.flush()

    def finish(self, lines: list[str]) -> None:
        """Say what came out."""
        self._stream.write("\r\x1b[K" if self._is_terminal else "")
        self._stream.writelines(f"{line}\n" for line in lines)
        self._stream.flush()
