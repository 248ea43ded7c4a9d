"""Reads prepared rows by number, without holding the files.

No torch and no memory map in here: rows are read with `pread` and their pages given back at once,
so that the data never counts against the budget for longer than a step. `sampler.py` says which
rows to read.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from outsize.errors import DataError
from outsize.train.data.manifest import COUNT_FILE, ROW_FILES, DatasetInfo, read_info

_ITEM_BYTES = 4

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBatch:
    """Some rows.

    Attributes:
        input_ids: [n, seq_length] token ids.
        labels: [n, seq_length] token to be predicted at each place, already shifted; -100 where
            there is none.
        position_ids: [n, seq_length]; restart at 0 with every document.
    """

    input_ids: Int64Array
    labels: Int64Array
    position_ids: Int64Array


class PackedRows:
    """A folder that `prepare_data` made.

    Attributes:
        info: what it holds.
        num_rows: rows of `seq_length` tokens.
        seq_length: tokens of a row.
        num_loss_tokens: [num_rows] labels of each row.

    Cost: 4 bytes a row for `num_loss_tokens`, and three open files until `close`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self.info: DatasetInfo = read_info(self._folder)
        self.num_rows = self.info.num_rows
        self.seq_length = self.info.seq_length
        self._row_bytes = self.seq_length * _ITEM_BYTES
        for name in ROW_FILES:
            self._check_size(name, self.num_rows * self._row_bytes)
        self._check_size(COUNT_FILE, self.num_rows * _ITEM_BYTES)
        self.num_loss_tokens = np.fromfile(self._folder / COUNT_FILE, "<i4")
        if int(self.num_loss_tokens.sum()) != self.info.num_loss_tokens:
            raise self._mismatch(COUNT_FILE, "its sum is not the number of labels")
        self._files = [
            os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC) for name in ROW_FILES
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; nothing can be read any more."""
        for file in self._files:
            os.close(file)
        self._files = []

    def read(self, row_indices: Sequence[int]) -> RowBatch:
        """Return the rows in the order of `row_indices`.

        Raises:
            DataError: a file became shorter, or a row is not there.

        Cost: 24 bytes for each token of the rows until the caller drops them; 12 are read from
        disk.
        """
        for index in row_indices:
            if not 0 <= index < self.num_rows:
                raise DataError(f"{self._folder} holds no row {index}; it holds {self.num_rows}.")
        input_ids, labels, position_ids = (
            self._read(name, file, row_indices)
            for name, file in zip(ROW_FILES, self._files, strict=True)
        )
        return RowBatch(input_ids=input_ids, labels=labels, position_ids=position_ids)

    def _read(self, name: str, file: int, row_indices: Sequence[int]) -> Int64Array:
        rows = np.empty((len(row_indices), self.seq_length), np.int64)
        for place, index in enumerate(row_indices):
            data = os.pread(file, self._row_bytes, index * self._row_bytes)
            if len(data) != self._row_bytes:
                raise self._mismatch(name, f"it ends within row {index}")
            rows[place] = np.frombuffer(data, "<i4")
        # Whole file: read-ahead leaves pages around the row that nobody asked for.
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        return rows

    def _check_size(self, name: str, expected_bytes: int) -> None:
        path = self._folder / name
        size_bytes = path.stat().st_size if path.is_file() else None
        if size_bytes != expected_bytes:
            found = "is missing" if size_bytes is None else f"has {size_bytes} bytes"
            raise self._mismatch(name, f"it {found}, expected {expected_bytes} bytes")

    def _mismatch(self, name: str, reason: str) -> DataError:
        return DataError(
            f"{self._folder / name} does not match dataset.json: {reason}. Delete the folder and "
            "prepare the data again."
        )
