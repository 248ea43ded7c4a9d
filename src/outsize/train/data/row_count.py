"""How many rows documents and examples fill, from their lengths alone.

The packers of `pack.py` fill the rows for real, by the same rules. No numpy in here, so that a plan
can count before anything is tokenised; read `estimate.py` next, which does.
"""

import math

OPEN_ROWS = 64
"""Rows that wait for an example that fits; bounds the memory of the packer."""


class RowCounter:
    """Counts the rows of one kind of data.

    Args:
        seq_length: tokens of a row.
        packing: whether several short documents or examples share a row.

    Attributes:
        num_tokens: tokens so far, those that a row's end cuts off an example included.
    """

    def __init__(self, seq_length: int, *, packing: bool) -> None:
        self._seq_length = seq_length
        self._packing = packing
        self._num_open = OPEN_ROWS if packing else 0
        self._stream_tokens = 0.0
        self._whole_rows = 0
        self._rooms: list[int] = []
        self.num_tokens = 0.0

    @property
    def num_rows(self) -> float:
        """Rows so far; text that shares its rows counts by the share that it fills."""
        return self._whole_rows + self._stream_tokens / self._seq_length

    def add_text(self, num_tokens: float) -> None:
        """Add a document that is cut wherever a row is full."""
        self.num_tokens += num_tokens
        if self._packing:
            self._stream_tokens += num_tokens
        else:
            self._whole_rows += math.ceil(num_tokens / self._seq_length)

    def add_example(self, num_tokens: float) -> None:
        """Add an example that stays whole in the row where it fits best; a row's end cuts it."""
        self.num_tokens += num_tokens
        count = min(math.ceil(num_tokens), self._seq_length)
        room = min((room for room in self._rooms if room >= count), default=None)
        if room is None:
            self._whole_rows += 1
            room = self._seq_length
        else:
            self._rooms.remove(room)
        if room > count:
            self._rooms.append(room - count)
        if len(self._rooms) > self._num_open:
            self._rooms.remove(min(self._rooms))


def num_set_aside(num_rows: int, fraction: float) -> int:
    """Return how many of so many rows `build.is_set_aside` keeps for evaluation."""
    return int(num_rows * fraction + 0.5)
