"""Chunks to rows of one length.

Text is a stream that is cut wherever a row is full, so no token is lost. Examples stay whole and
are put where they fit best. In a row `position_ids` restart at 0 with every document, which keeps
attention inside of it, and the filling at the end of a row is a document of its own without loss.
[Note: cut documents] A document that goes on in the next row starts there at position 0 and without
its past; the label of the last place before the cut is the token after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from outsize.train.data.encode import IGNORED, Chunk, Int32Array
from outsize.train.data.row_count import OPEN_ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One finished row.

    Attributes:
        input_ids: [seq_length] token ids.
        labels: [seq_length] tokens to be predicted, or `IGNORED`.
        position_ids: [seq_length] places inside of the documents.
        num_tokens: tokens of documents, filling not counted.
        num_documents: documents that begin in the row.
    """

    input_ids: Int32Array
    labels: Int32Array
    position_ids: Int32Array
    num_tokens: int
    num_documents: int


class RowBuilder:
    """A row that is being filled."""

    def __init__(self, seq_length: int, fill_id: int) -> None:
        self._input_ids = np.full(seq_length, fill_id, np.int32)
        self._labels = np.full(seq_length, IGNORED, np.int32)
        self._position_ids = np.zeros(seq_length, np.int32)
        self._position = 0
        self._num_documents = 0
        self.num_tokens = 0

    @property
    def room(self) -> int:
        """Places that are free."""
        return len(self._input_ids) - self.num_tokens

    def begin(self) -> None:
        """Let the next tokens be a new document."""
        self._position = 0
        self._num_documents += 1

    def add(self, input_ids: Int32Array, labels: Int32Array) -> None:
        """Append tokens to the document that is open; they must fit."""
        count = len(input_ids)
        assert count <= self.room
        place = slice(self.num_tokens, self.num_tokens + count)
        self._input_ids[place] = input_ids
        self._labels[place] = labels
        self._position_ids[place] = np.arange(self._position, self._position + count)
        self._position += count
        self.num_tokens += count

    def finish(self) -> Row:
        """Return the row, its end filled."""
        self._position_ids[self.num_tokens :] = np.arange(self.room)
        return Row(
            input_ids=self._input_ids,
            labels=self._labels,
            position_ids=self._position_ids,
            num_tokens=self.num_tokens,
            num_documents=self._num_documents,
        )


class StreamPacker:
    """Packs text: documents one after the other, cut at the ends of the rows.

    Attributes:
        num_truncated: always 0, nothing is lost.
        num_dropped: always 0.
    """

    num_truncated = 0
    num_dropped = 0

    def __init__(self, seq_length: int, fill_id: int, *, packing: bool) -> None:
        self._seq_length = seq_length
        self._fill_id = fill_id
        self._packing = packing
        self._row = RowBuilder(seq_length, fill_id)

    def add(self, chunk: Chunk) -> Iterator[Row]:
        """Take the next part of the stream; yield the rows that are full."""
        if chunk.begins:
            if not self._packing and self._row.num_tokens:
                yield self._next_row()
            self._row.begin()
        start = 0
        while start < len(chunk.input_ids):
            part = slice(start, start + self._row.room)
            self._row.add(chunk.input_ids[part], chunk.labels[part])
            start = part.stop
            if not self._row.room:
                yield self._next_row()

    def flush(self) -> Iterator[Row]:
        """Yield the last row, if it holds anything."""
        if self._row.num_tokens:
            yield self._next_row()

    def _next_row(self) -> Row:
        row, self._row = self._row, RowBuilder(self._seq_length, self._fill_id)
        return row.finish()


class ExamplePacker:
    """Packs whole examples by best fit into at most `OPEN_ROWS` open rows.

    An example longer than a row is cut at the row's end, and dropped when no loss is left.

    Attributes:
        num_truncated: examples that were cut and kept.
        num_dropped: examples without a token to learn.
    """

    def __init__(self, seq_length: int, fill_id: int, *, packing: bool) -> None:
        self._seq_length = seq_length
        self._fill_id = fill_id
        self._num_open = OPEN_ROWS if packing else 0
        self._rows: list[RowBuilder] = []
        self.num_truncated = 0
        self.num_dropped = 0

    def add(self, chunk: Chunk) -> Iterator[Row]:
        """Take one example; yield the fullest row if too many are open."""
        input_ids, labels = chunk.input_ids[: self._seq_length], chunk.labels[: self._seq_length]
        if (labels == IGNORED).all():
            self.num_dropped += 1
            return
        self.num_truncated += len(chunk.input_ids) > self._seq_length
        row = self._best_row(len(input_ids))
        row.begin()
        row.add(input_ids, labels)
        if not row.room:
            self._rows.remove(row)
            yield row.finish()
        elif len(self._rows) > self._num_open:
            fullest = min(self._rows, key=lambda open_row: open_row.room)
            self._rows.remove(fullest)
            yield fullest.finish()

    def flush(self) -> Iterator[Row]:
        """Yield the rows that are still open, in the order they were begun."""
        rows, self._rows = self._rows, []
        for row in rows:
            yield row.finish()

    def _best_row(self, count: int) -> RowBuilder:
        fitting = [row for row in self._rows if row.room >= count]
        if fitting:
            return min(fitting, key=lambda row: row.room)
        self._rows.append(RowBuilder(self._seq_length, self._fill_id))
        return self._rows[-1]


Packer = StreamPacker | ExamplePacker
