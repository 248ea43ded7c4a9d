"""Records from a source, one after the other.

Every reader holds a batch of records or a piece of text at a time, never a file. `text_files` and
`tables` do the reading; `shapes` says what a record means.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from outsize.errors import DataError
from outsize.train.data import tables, text_files
from outsize.train.data.record import Record
from outsize.train.data.reference import reference_topics
from outsize.train.data.source import Source


def read_records(source: Source, columns: frozenset[str]) -> Iterator[Record]:
    """Yield the records of a source in order; of a table's columns only `columns` are read.

    Raises:
        DataError: a file is not what its extension says; names the file and the line or row.
    """
    match source.kind:
        case "builtin":
            for title, text in reference_topics():
                yield Record(where=f"topic {title!r}", fields={"text": text}, done_bytes=0)
        case "hub":
            yield from tables.read_hub(source, columns)
        case "saved":
            yield from tables.read_saved(source, columns)
        case "files":
            yield from _read_files(source, columns)


def _read_files(source: Source, columns: frozenset[str]) -> Iterator[Record]:
    done_bytes = 0
    for path in source.files:
        for record in _read_file(path, columns):
            yield replace(record, done_bytes=done_bytes + record.done_bytes)
        done_bytes += path.stat().st_size


def _read_file(path: Path, columns: frozenset[str]) -> Iterator[Record]:
    readers: dict[str, Callable[[], Iterator[Record]]] = {
        ".txt": lambda: text_files.read_text(path),
        ".jsonl": lambda: text_files.read_json_lines(path),
        ".json": lambda: text_files.read_json(path),
        ".csv": lambda: tables.read_csv(path),
        ".parquet": lambda: tables.read_parquet(path, columns),
    }
    try:
        yield from readers[path.suffix.lower()]()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
