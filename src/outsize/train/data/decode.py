"""UTF-8 text from files, by chunk or by line; errors name the place of the bytes."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from outsize.errors import DataError

CHUNK_BYTES = 1 << 18


def decoded_chunks(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (text, bytes read so far) by `CHUNK_BYTES`, without the byte order mark.

    Raises:
        DataError: the file holds bytes that are no UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    done_bytes = 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                raise _undecodable(f"{path}, byte {done_bytes - pending + error.start}") from error
            done_bytes += len(chunk)
            yield text, done_bytes
            if not chunk:
                return


def decoded_lines(path: Path) -> Iterator[tuple[str, int]]:
    r"""Yield (line, bytes read so far); lines end at \n alone, as `jsonl` and `csv` have it.

    Raises:
        DataError: a line holds bytes that are no UTF-8.
    """
    done_bytes = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            done_bytes += len(line)
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _undecodable(f"{path}, line {number}") from error
            yield text, done_bytes


def _undecodable(where: str) -> DataError:
    return DataError(f"{where}: bytes that are no UTF-8 text; save the file as UTF-8.")
