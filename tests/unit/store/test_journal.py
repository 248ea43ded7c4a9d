"""The journal: the newest whole record is found, whatever happened to the one after it."""

import errno
import os
import struct
from pathlib import Path

import pytest

from outsize.errors import StorageError
from outsize.store.journal import Journal, create_journal
from outsize.store.kernel import Kernel
from outsize.store.record import Record, encode_record

PAGE = 4096
FIRST, SECOND, THIRD = ({"step": number, "loss": number / 7} for number in (1, 2, 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.bin"
    create_journal(path, capacity_bytes=1000)
    return path


def test_a_new_journal_has_no_record(path):
    assert Journal(path).latest() is None
    assert [file.name for file in path.parent.iterdir()] == ["journal.bin"]
    assert path.stat().st_size == 3 * PAGE


def test_the_newest_record_is_the_one_appended_last(path):
    journal = Journal(path)
    for record in (FIRST, SECOND, THIRD):
        journal.append(record)
        assert journal.latest() == record
        assert Journal(path).latest() == record


def test_a_reopened_journal_goes_on_in_the_other_slot(path):
    Journal(path).append(FIRST)
    Journal(path).append(SECOND)
    content = path.read_bytes()
    Journal(path).append(THIRD)
    changed = path.read_bytes()
    assert changed[: 2 * PAGE] == content[: 2 * PAGE]  # the second generation lies in slot 0
    assert changed[2 * PAGE :] != content[2 * PAGE :]


@pytest.mark.parametrize(("num_records", "slot_start"), [(2, PAGE), (3, 2 * PAGE)])
def test_a_flip_of_any_byte_of_the_newest_record_brings_back_the_one_before(
    path, num_records, slot_start
):
    records = [FIRST, SECOND, THIRD][:num_records]
    for record in records:
        Journal(path).append(record)
    whole = path.read_bytes()
    record_bytes = len(encode_record(Record(generation=num_records, content=records[-1])))
    for offset in range(PAGE):
        damaged = bytearray(whole)
        damaged[slot_start + offset] ^= 0x10
        path.write_bytes(damaged)
        expected = records[-2] if offset < record_bytes else records[-1]
        assert Journal(path).latest() == expected, offset


def test_a_cut_at_any_byte_of_the_newest_record_brings_back_the_one_before(path):
    for record in (FIRST, SECOND, THIRD):
        Journal(path).append(record)
    whole = path.read_bytes()
    for offset in range(len(encode_record(Record(generation=3, content=THIRD)))):
        path.write_bytes(whole[: 2 * PAGE + offset])
        assert Journal(path).latest() == SECOND, offset


def test_a_torn_write_of_any_length_brings_back_the_one_before(path):
    for record in (FIRST, SECOND):
        Journal(path).append(record)
    before = path.read_bytes()
    Journal(path).append(THIRD)
    after = path.read_bytes()
    record_bytes = len(encode_record(Record(generation=3, content=THIRD)))
    for count in range(record_bytes + 1):
        end = 2 * PAGE + count
        path.write_bytes(after[:end] + before[end:])
        expected = THIRD if after[:end] + before[end:] == after else SECOND
        assert Journal(path).latest() == expected, count


def test_after_a_torn_record_the_next_one_takes_its_place(path):
    for record in (FIRST, SECOND):
        Journal(path).append(record)
    with path.open("r+b") as file:
        file.seek(PAGE + 20)
        file.write(b"\xff")
    journal = Journal(path)
    assert journal.latest() == FIRST
    journal.append(THIRD)
    assert journal.latest() == THIRD


def test_a_torn_first_record_is_no_record(path):
    Journal(path).append(FIRST)
    with path.open("r+b") as file:
        file.seek(2 * PAGE)
        file.write(b"X")
    assert Journal(path).latest() is None


def test_two_damaged_records_are_an_error(path):
    for record in (FIRST, SECOND):
        Journal(path).append(record)
    damaged = bytearray(path.read_bytes())
    damaged[PAGE + 50] ^= 1
    damaged[2 * PAGE + 50] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StorageError, match=r"Both commit records in .*journal\.bin are damaged"):
        Journal(path)


def test_a_large_record_is_compressed_and_comes_back(tmp_path):
    path = tmp_path / "journal.bin"
    record = {"checksums": {f"layers.{number}": number * 2**50 for number in range(5000)}}
    create_journal(path, capacity_bytes=100_000)
    Journal(path).append(record)
    assert len(str(record)) > 150_000
    assert Journal(path).latest() == record


def test_a_record_larger_than_a_slot_is_refused_and_the_one_before_stays(path):
    journal = Journal(path)
    journal.append(FIRST)
    with pytest.raises(StorageError) as caught:
        journal.append({"text": "x" * 5000})
    assert str(caught.value) == (
        f"A commit record of 4.93 KiB does not fit into {path}, whose slots hold 4.00 KiB.\n"
        "  The record before it stays the newest."
    )
    assert journal.latest() == FIRST


def test_a_commit_that_fails_leaves_the_one_before(path):
    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Journal(path).append(FIRST)
    broken = Journal(path, kernel=Kernel(pwritev=lambda fd, buffers, offset: fail(fd)))
    with pytest.raises(StorageError, match=r"Committing to .* failed: No space left .*\(ENOSPC\)"):
        broken.append(SECOND)
    assert Journal(path).latest() == FIRST


def test_a_short_write_is_continued(path):
    def short(fd: int, buffers: list[memoryview], offset: int) -> int:
        return os.pwritev(fd, [buffers[0][:7]], offset)

    Journal(path, kernel=Kernel(pwritev=short)).append(FIRST)
    assert Journal(path).latest() == FIRST


def test_a_commit_is_synced_after_it_is_written(path):
    calls = []

    def write(fd: int, buffers: list[memoryview], offset: int) -> int:
        calls.append("write")
        return os.pwritev(fd, buffers, offset)

    kernel = Kernel(pwritev=write, fdatasync=lambda _: calls.append("sync"))
    Journal(path, kernel=kernel).append(FIRST)
    assert calls == ["write", "sync"]


def test_a_missing_journal_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"Opening .*none\.bin failed: No such file"):
        Journal(tmp_path / "none.bin")


def test_a_journal_is_never_overwritten(path):
    with pytest.raises(StorageError, match=r"journal\.bin exists already; it is not overwritten"):
        create_journal(path, capacity_bytes=1000)


def test_a_journal_that_cannot_be_created_leaves_nothing(tmp_path):
    with pytest.raises(StorageError, match=r"Creating .*journal\.bin failed: No such file"):
        create_journal(tmp_path / "none" / "journal.bin", capacity_bytes=1000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"outsjrnl", bytes(12288), b"x" * 12288])
def test_a_file_that_is_no_journal_is_refused(tmp_path, content):
    path = tmp_path / "other.bin"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"other\.bin is not a journal"):
        Journal(path)


def test_a_journal_of_another_format_is_refused(path, monkeypatch):
    monkeypatch.setattr("outsize.store.record.FORMAT_VERSION", 9)
    other = path.with_name("newer.bin")
    create_journal(other, capacity_bytes=1000)
    with pytest.raises(StorageError, match=r"is a journal of format 9; this version .* format 1"):
        Journal(other)


def test_a_record_of_an_absurd_length_is_torn(path):
    Journal(path).append(FIRST)
    Journal(path).append(SECOND)
    damaged = bytearray(path.read_bytes())
    damaged[PAGE + 24 : PAGE + 32] = struct.pack("<Q", 2**63)
    path.write_bytes(damaged)
    assert Journal(path).latest() == FIRST
