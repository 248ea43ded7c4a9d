"""Commit records: the newest complete one is the state that a run resumes from.

A journal is a first page and two slots. A record goes into the slot that does not hold the newest
one, so that at every instant of a crash one complete record is on disk. `record.py` has the bytes
of a record; the regions that it names are written and synced before it, by `disk.py`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from outsize.errors import StorageError
from outsize.quantities import format_bytes
from outsize.spec.tensor import PAGE_BYTES
from outsize.store.durable import write_whole_file
from outsize.store.kernel import Kernel, reason
from outsize.store.record import (
    FORMAT_VERSION,
    Record,
    decode_first_page,
    decode_record,
    encode_first_page,
    encode_record,
    slot_bytes_for,
)

_NUM_SLOTS = 2


def create_journal(path: Path, *, capacity_bytes: int) -> None:
    """Create an empty journal for records of up to `capacity_bytes` of JSON in UTF-8.

    Raises:
        StorageError: the file exists or the disk refused; no half-made journal is left behind.

    Cost: twice `capacity_bytes` and up to three pages on disk; as much host memory meanwhile.
    """
    if path.exists():
        raise StorageError(f"{path} exists already; it is not overwritten.")
    slot_bytes = slot_bytes_for(capacity_bytes)
    write_whole_file(path, encode_first_page(slot_bytes) + bytes(_NUM_SLOTS * slot_bytes))


class Journal:
    """An existing journal, open for one process.

    Guarantees: after a crash at any instant `latest` returns the last record whose `append`
    returned, or the one after it, complete.

    Args:
        path: what `create_journal` made.
        kernel: the system calls.

    Raises:
        StorageError: the file is missing, is no journal of this version, or has no record left
            that is whole.
    """

    def __init__(self, path: Path, *, kernel: Kernel | None = None) -> None:
        self._path = path
        self._kernel = Kernel() if kernel is None else kernel
        self._slot_bytes = _read_slot_bytes(path)
        newest = self._newest()
        self._generation = 0 if newest is None else newest.generation

    def append(self, content: Mapping[str, object]) -> None:
        """Make `content` the newest record; durable when this returns.

        Raises:
            StorageError: it is larger than a slot or the disk failed; the record before it stays
                the newest.

        Cost: the record's JSON, twice, in host memory meanwhile; as much is written to disk.
        """
        generation = self._generation + 1
        stored = encode_record(Record(generation=generation, content=content))
        if len(stored) > self._slot_bytes:
            raise StorageError(
                f"A commit record of {format_bytes(len(stored))} does not fit into {self._path}, "
                f"whose slots hold {format_bytes(self._slot_bytes)}.\n"
                "  The record before it stays the newest."
            )
        try:
            self._write(stored, self._offset_bytes(generation % _NUM_SLOTS))
        except OSError as error:
            raise StorageError(
                f"Committing to {self._path} failed: {reason(error)}.\n"
                "  The record before it stays the newest; make room or replace the drive, "
                "then resume."
            ) from error
        self._generation = generation

    def latest(self) -> Mapping[str, object] | None:
        """Return the newest complete record; None when nothing was ever committed.

        Raises:
            StorageError: both slots hold damaged records, or the file cannot be read.
        """
        newest = self._newest()
        return None if newest is None else newest.content

    def _newest(self) -> Record | None:
        try:
            with self._path.open("rb", buffering=0) as file:
                offsets = [self._offset_bytes(index) for index in range(_NUM_SLOTS)]
                slots = [os.pread(file.fileno(), self._slot_bytes, start) for start in offsets]
        except OSError as error:
            raise StorageError(f"Reading {self._path} failed: {reason(error)}.") from error
        records = [record for slot in slots if (record := decode_record(slot)) is not None]
        if records:
            return max(records, key=lambda record: record.generation)
        if any(slot.count(0) == self._slot_bytes for slot in slots):
            return None  # nothing yet, or only a first record that was torn while it was written
        raise StorageError(
            f"Both commit records in {self._path} are damaged, so the last step is not known.\n"
            "  The file was changed by something else or the drive is failing; go on from a copy "
            "of the run's folder."
        )

    def _offset_bytes(self, slot_index: int) -> int:
        return PAGE_BYTES + slot_index * self._slot_bytes

    def _write(self, stored: bytes, offset_bytes: int) -> None:
        fd = self._kernel.open(self._path, os.O_WRONLY, 0)
        try:
            rest = memoryview(stored)
            while rest:
                count = self._kernel.pwritev(fd, [rest], offset_bytes)
                rest, offset_bytes = rest[count:], offset_bytes + count
            self._kernel.fdatasync(fd)
            self._kernel.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def _read_slot_bytes(path: Path) -> int:
    try:
        with path.open("rb", buffering=0) as file:
            first_page = decode_first_page(file.read(PAGE_BYTES))
    except OSError as error:
        raise StorageError(f"Opening {path} failed: {reason(error)}.") from error
    if first_page is None:
        raise StorageError(f"{path} is not a journal, or its first page is damaged.")
    if first_page.version != FORMAT_VERSION:
        raise StorageError(
            f"{path} is a journal of format {first_page.version}; "
            f"this version of outsize reads format {FORMAT_VERSION}."
        )
    return first_page.slot_bytes
