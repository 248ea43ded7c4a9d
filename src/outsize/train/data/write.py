"""Rows to files, one after the other, under temporary names until all of them are written.

`manifest.py` says what the files are; `rows.py` reads them.
"""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from outsize.errors import StorageError
from outsize.train.data.encode import IGNORED
from outsize.train.data.manifest import (
    COUNT_FILE,
    MANIFEST_NAME,
    ROW_FILES,
    DatasetInfo,
    write_info,
)
from outsize.train.data.pack import Row

_FLUSH_BYTES = 1 << 24


class RowWriter:
    """Writes the rows of one folder.

    Attributes:
        num_rows: rows written so far; the other counts as in `DatasetInfo`.

    Without `commit` nothing of it remains.

    Cost: nothing that grows with the data; written pages are dropped from the page cache every 16
    MiB.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._unflushed_bytes = 0
        self.num_rows = 0
        self.num_documents = 0
        self.num_tokens = 0
        self.num_loss_tokens = 0
        self.max_token_id = 0

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in (*ROW_FILES, COUNT_FILE):
                self._files[name] = self._part(name).open("wb")
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name, file in self._files.items():
            with suppress(
                OSError
            ):  # after `commit` there is nothing to lose, before it all is thrown away
                file.close()
            self._part(name).unlink(missing_ok=True)

    def write(self, row: Row) -> None:
        """Append a row.

        Raises:
            StorageError: the disk is full or fails.
        """
        count = int(np.count_nonzero(row.labels != IGNORED))
        arrays = (row.input_ids, row.labels, row.position_ids, np.array([count]))
        try:
            for file, array in zip(self._files.values(), arrays, strict=True):
                self._unflushed_bytes += file.write(array.astype("<i4").tobytes())
            if self._unflushed_bytes >= _FLUSH_BYTES:
                self._flush()
        except OSError as error:
            raise self._failed(error) from error
        self.num_rows += 1
        self.num_documents += row.num_documents
        self.num_tokens += row.num_tokens
        self.num_loss_tokens += count
        self.max_token_id = max(self.max_token_id, int(row.input_ids.max()))

    def counted(self, info: DatasetInfo) -> DatasetInfo:
        """Return `info` with what was written here."""
        return replace(
            info,
            num_rows=self.num_rows,
            num_documents=self.num_documents,
            num_tokens=self.num_tokens,
            num_loss_tokens=self.num_loss_tokens,
            max_token_id=self.max_token_id,
        )

    def commit(self, info: DatasetInfo) -> None:
        """Give the files their names and write `dataset.json`: `info` with the counts from here.

        Raises:
            StorageError: the disk is full or fails.
        """
        try:
            self._flush()
            (self._folder / MANIFEST_NAME).unlink(missing_ok=True)
            for name in self._files:
                self._part(name).replace(self._folder / name)
            write_info(self._folder, self.counted(info))
        except OSError as error:
            raise self._failed(error) from error

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._unflushed_bytes = 0

    def _part(self, name: str) -> Path:
        return self._folder / f"{name}.part"

    def _failed(self, error: OSError) -> StorageError:
        return StorageError(
            f"The tokenised data cannot be written to {self._folder}: {error.strerror or error}."
        )
