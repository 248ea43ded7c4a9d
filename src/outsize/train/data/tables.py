"""Records from what has columns: `csv`, `parquet`, folders of `save_to_disk`, data sets of the Hub.

Everything is read in batches of `BATCH_ROWS`. Libraries are imported where they are used: pyarrow
and datasets take more than 100 MB.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outsize.errors import DataError
from outsize.train.data.decode import decoded_lines
from outsize.train.data.hub import hub_batches
from outsize.train.data.record import Record
from outsize.train.data.source import Source

BATCH_ROWS = 128


def read_csv(path: Path) -> Iterator[Record]:
    """Yield the rows of a CSV file whose first row names the columns.

    Raises:
        DataError: a row has more or fewer columns than the first one, or a quote is not closed.
    """
    done_bytes = 0

    def lines() -> Iterator[str]:
        nonlocal done_bytes
        for line, read_bytes in decoded_lines(path):
            done_bytes = read_bytes
            yield line

    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(lines(), strict=True)
    try:
        header = next(rows, [])
        for values in rows:
            where = f"{path}, line {rows.line_num}"
            if values and len(values) != len(header):
                raise DataError(
                    f"{where}: {len(values)} columns where the first line names {len(header)}."
                )
            if values:
                yield Record(
                    where=where,
                    fields=dict(zip(header, values, strict=True)),
                    done_bytes=done_bytes,
                )
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: malformed CSV: {error}.") from error


def read_parquet(path: Path, columns: frozenset[str]) -> Iterator[Record]:
    """Yield the rows of a parquet file.

    Raises:
        DataError: the file is no parquet.

    Cost: `BATCH_ROWS` rows, and pages of one row group of the columns that are read.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, memory_map=False) as file:
            wanted = _wanted(file.schema_arrow.names, columns)
            num_rows = max(file.metadata.num_rows, 1)
            number = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
                for fields in batch.to_pylist():
                    number += 1
                    done_bytes = path.stat().st_size * number // num_rows
                    where = f"{path}, row {number}"
                    yield Record(where=where, fields=fields, done_bytes=done_bytes)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is no readable parquet file: {error}.") from error


def read_saved(source: Source, columns: frozenset[str]) -> Iterator[Record]:
    """Yield the rows of a folder that `save_to_disk` of the `datasets` library made.

    Raises:
        DataError: the folder is damaged, or holds no such split.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(source.name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{source.name} is no readable data set folder: {error}.") from error
    if isinstance(loaded, datasets.DatasetDict):
        if source.split not in loaded:
            found = ", ".join(loaded)
            raise DataError(f"{source.name} holds no split {source.split!r}; it holds {found}.")
        loaded = loaded[source.split]
    loaded = loaded.select_columns(_wanted(loaded.column_names, columns))
    yield from _rows(source.name, loaded.iter(batch_size=BATCH_ROWS))


def read_hub(source: Source, columns: frozenset[str]) -> Iterator[Record]:
    """Yield the rows of a Hub data set, streamed."""
    assert source.revision is not None
    yield from _rows(
        source.name, hub_batches(source.name, source.revision, source.split, BATCH_ROWS)
    )


def _rows(name: str, batches: Iterator[dict[str, list[Any]]]) -> Iterator[Record]:
    number = 0
    for batch in batches:
        for values in zip(*batch.values(), strict=True):
            number += 1
            fields = dict(zip(batch, values, strict=True))
            yield Record(where=f"{name}, row {number}", fields=fields, done_bytes=0)


def _wanted(names: list[str], columns: frozenset[str]) -> list[str]:
    """Return the columns to read; all where none is known, so that the message names them."""
    return [name for name in names if name in columns] or list(names)
