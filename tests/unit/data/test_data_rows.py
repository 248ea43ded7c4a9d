import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from outsize.errors import DataError, StorageError
from outsize.train.data.manifest import DatasetInfo, read_info
from outsize.train.data.pack import RowBuilder
from outsize.train.data.rows import PackedRows
from outsize.train.data.write import RowWriter

SEQ = 6


def make_row(number: int):
    builder = RowBuilder(SEQ, fill_id=7)
    builder.begin()
    tokens = np.arange(number, number + 4, dtype=np.int32)
    builder.add(tokens, np.array([*tokens[1:], -100], np.int32))
    return builder.finish()


INFO = DatasetInfo(
    seq_length=SEQ,
    num_truncated=1,
    num_dropped=2,
    num_evaluation_rows=0,
    shape="text",
    source="a.txt",
    fingerprint="f",
    tokenizer_hash="t",
)


def write_rows(folder: Path, num_rows: int = 5) -> None:
    with RowWriter(folder) as writer:
        for number in range(num_rows):
            writer.write(make_row(100 * number))
        writer.commit(INFO)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows")
    return tmp_path / "rows"


def test_rows_come_back_in_the_order_asked_for(folder):
    with PackedRows(folder) as rows:
        batch = rows.read([3, 0, 3])
    assert batch.input_ids.tolist() == [
        [300, 301, 302, 303, 7, 7],
        [0, 1, 2, 3, 7, 7],
        [300, 301, 302, 303, 7, 7],
    ]
    assert batch.labels[1].tolist() == [1, 2, 3, -100, -100, -100]
    assert batch.position_ids[0].tolist() == [0, 1, 2, 3, 0, 1]
    arrays = (batch.input_ids, batch.labels, batch.position_ids)
    assert {array.dtype for array in arrays} == {np.dtype(np.int64)}


def test_the_folder_says_what_it_holds(folder):
    with PackedRows(folder) as rows:
        assert (rows.num_rows, rows.seq_length) == (5, SEQ)
        assert rows.num_loss_tokens.tolist() == [3] * 5
        assert rows.info == dataclasses.replace(
            INFO, num_rows=5, num_documents=5, num_tokens=20, num_loss_tokens=15, max_token_id=403
        )


def test_files_are_little_endian_int32(folder):
    ids = np.memmap(folder / "input_ids.i32", "<i4", "r", shape=(5, SEQ))
    assert ids[4].tolist() == [400, 401, 402, 403, 7, 7]
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.json",
        "input_ids.i32",
        "labels.i32",
        "position_ids.i32",
        "rows.i32",
    ]


def test_reading_no_rows(folder):
    with PackedRows(folder) as rows:
        assert rows.read([]).input_ids.shape == (0, SEQ)


@pytest.mark.parametrize("index", [-1, 5])
def test_a_row_that_is_not_there(folder, index):
    with PackedRows(folder) as rows, pytest.raises(DataError) as caught:
        rows.read([index])
    assert str(caught.value) == f"{folder} holds no row {index}; it holds 5."


@pytest.mark.parametrize(
    ("name", "size"), [("labels.i32", 5 * SEQ * 4), ("rows.i32", 20), ("input_ids.i32", 120)]
)
def test_a_file_of_another_size_is_refused(folder, name, size):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError) as caught:
        PackedRows(folder)
    assert str(caught.value) == (
        f"{path} does not match dataset.json: it has {size - 4} bytes, expected {size} bytes. "
        "Delete the folder and prepare the data again."
    )
    path.unlink()
    with pytest.raises(DataError, match=f"it is missing, expected {size} bytes"):
        PackedRows(folder)


def test_counts_that_do_not_add_up_are_refused(folder):
    np.array([3, 3, 3, 3, 4], "<i4").tofile(folder / "rows.i32")
    with pytest.raises(DataError, match="its sum is not the number of labels"):
        PackedRows(folder)


def test_a_file_that_becomes_shorter_while_it_is_open(folder):
    with PackedRows(folder) as rows:
        (folder / "labels.i32").write_bytes(b"1234")
        with pytest.raises(DataError, match=r"labels\.i32 does not match .* it ends within row 2"):
            rows.read([2])


def test_a_folder_that_was_never_prepared(tmp_path):
    with pytest.raises(DataError) as caught:
        PackedRows(tmp_path)
    assert (
        str(caught.value)
        == f"{tmp_path} holds no prepared data (dataset.json: No such file or directory)."
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: "{",
        lambda fields: "[]",
        lambda fields: json.dumps({**fields, "num_rows": -1}),
        lambda fields: json.dumps({**fields, "num_rows": "5"}),
        lambda fields: json.dumps({**fields, "num_rows": True}),
        lambda fields: json.dumps({**fields, "version": 99}),
        lambda fields: json.dumps({**fields, "source": 5}),
        lambda fields: json.dumps({**fields, "more": 1}),
    ],
)
def test_a_damaged_manifest_is_refused(folder, change):
    path = folder / "dataset.json"
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(DataError, match=r"dataset\.json is damaged: "):
        read_info(folder)


def test_writing_again_replaces_the_rows(folder):
    write_rows(folder, num_rows=2)
    with PackedRows(folder) as rows:
        assert rows.num_rows == 2


def test_an_error_leaves_the_old_rows_and_no_parts(folder):
    writer = RowWriter(folder)
    with pytest.raises(ZeroDivisionError), writer:
        writer.write(make_row(1 // 0))
    with PackedRows(folder) as rows:
        assert rows.num_rows == 5
    assert not list(folder.glob("*.part"))


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path):
    for name in ("input_ids.i32", "labels.i32", "position_ids.i32", "rows.i32"):
        (tmp_path / f"{name}.part").symlink_to("/dev/full")
    with pytest.raises(StorageError) as caught:
        write_rows(tmp_path)
    assert str(caught.value) == (
        f"The tokenised data cannot be written to {tmp_path}: No space left on device."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(StorageError, match=r"cannot be written to .*: "),
        RowWriter(tmp_path / "file"),
    ):
        pass
