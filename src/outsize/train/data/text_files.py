"""Records from `txt`, `jsonl` and `json` files.

A plain text file is one document. JSON is read with the standard library because its errors know
the line.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outsize.errors import DataError
from outsize.train.data.decode import decoded_chunks, decoded_lines
from outsize.train.data.json_stream import JsonStream
from outsize.train.data.record import Record
from outsize.train.data.split_text import pieces


def read_text(path: Path) -> Iterator[Record]:
    """Yield the pieces of a plain text file, which together are one document."""
    done_bytes = 0

    def chunks() -> Iterator[str]:
        nonlocal done_bytes
        for text, read_bytes in decoded_chunks(path):
            done_bytes = read_bytes
            yield text

    begins = True
    for text, ends in pieces(chunks()):
        yield Record(
            where=str(path), fields={"text": text}, done_bytes=done_bytes, begins=begins, ends=ends
        )
        begins = False


def read_json_lines(path: Path) -> Iterator[Record]:
    """Yield one record for each line that is not blank.

    Raises:
        DataError: a line is no JSON object.
    """
    for number, (line, done_bytes) in enumerate(decoded_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}: malformed JSON: {error.msg} (column {error.colno})."
            ) from error
        except RecursionError as error:
            raise DataError(f"{where}: malformed JSON: it is nested too deeply.") from error
        yield Record(where=where, fields=_object(where, value), done_bytes=done_bytes)


def read_json(path: Path) -> Iterator[Record]:
    """Yield the records of an array, or of objects that follow each other.

    Raises:
        DataError: the file is no JSON, or holds something else than objects.
    """
    stream = JsonStream(path)
    for line, value in stream.values():
        where = f"{path}, line {line}"
        yield Record(where=where, fields=_object(where, value), done_bytes=stream.done_bytes)


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: a record must be a JSON object with named fields; found a "
            f"{type(value).__name__}."
        )
    return value
