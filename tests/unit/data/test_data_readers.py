import gzip
import json
from pathlib import Path

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from outsize.errors import DataError
from outsize.train.data import split_text
from outsize.train.data.readers import read_records
from outsize.train.data.shapes import columns_of_interest
from outsize.train.data.source import find_source


def records(path: Path | str, split: str = "train") -> list:
    return list(read_records(find_source(str(path), split), columns_of_interest(None)))


def fields(path: Path | str, split: str = "train") -> list[dict]:
    return [record.fields for record in records(path, split)]


def message(path: Path | str, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        records(path, split)
    return str(caught.value)


def save(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


ROWS = [{"text": "one"}, {"text": "zwei ä\nlines"}, {"text": "3"}]


def test_all_formats_give_the_same_records(tmp_path):
    save(tmp_path / "a.jsonl", "\n\n".join(json.dumps(row) for row in ROWS))
    save(tmp_path / "a.json", json.dumps(ROWS, indent=1, ensure_ascii=False))
    save(tmp_path / "a.csv", '\ufefftext,other\none,1\n"zwei ä\nlines",2\n3,3\n')
    table = pyarrow.Table.from_pylist([{**row, "other": 1} for row in ROWS])
    parquet.write_table(table, tmp_path / "a.parquet")
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert fields(tmp_path / "a.jsonl") == ROWS
    assert fields(tmp_path / "a.json") == ROWS
    assert [{"text": row["text"]} for row in fields(tmp_path / "a.csv")] == ROWS
    assert fields(tmp_path / "a.parquet") == ROWS
    assert fields(tmp_path / "saved") == ROWS


def test_records_know_where_they_are(tmp_path):
    path = save(tmp_path / "a.jsonl", '{"text": "a"}\n\n{"text": "b"}\n')
    assert [r.where for r in records(path)] == [f"{path}, line 1", f"{path}, line 3"]
    assert records(path)[-1].done_bytes == path.stat().st_size


def test_bytes_read_go_on_over_files(tmp_path):
    save(tmp_path / "a.txt", "12345")
    save(tmp_path / "b.txt", "123")
    assert [record.done_bytes for record in records(tmp_path)] == [5, 8]


def test_a_text_file_is_one_document_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(split_text.pieces, "__defaults__", (10,))
    path = save(tmp_path / "a.txt", "\ufeffone two\nthree four\n\nfive")
    found = records(path)
    assert "".join(r.fields["text"] for r in found) == "one two\nthree four\n\nfive"
    assert len(found) > 2
    assert [r.begins for r in found] == [True] + [False] * (len(found) - 1)
    assert [r.ends for r in found] == [False] * (len(found) - 1) + [True]


def test_splits_of_a_saved_folder(tmp_path):
    parts = {name: datasets.Dataset.from_list([{"text": name}]) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert fields(tmp_path / "saved", "test") == [{"text": "test"}]
    assert message(tmp_path / "saved", "dev") == (
        f"{tmp_path}/saved holds no split 'dev'; it holds train, test."
    )


def test_the_builtin_is_the_language_reference_in_a_fixed_order():
    found = records("builtin:python-reference")
    assert len(found) > 50
    assert [r.where for r in found] == sorted(r.where for r in found)
    assert all(r.fields["text"].strip() for r in found)


def test_malformed_jsonl_names_the_line(tmp_path):
    path = save(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": \n')
    assert message(path) == f"{path}, line 2: malformed JSON: Expecting value (column 9)."


def test_deeply_nested_jsonl(tmp_path):
    path = save(tmp_path / "a.jsonl", "[" * 100_000)
    assert message(path) == f"{path}, line 1: malformed JSON: it is nested too deeply."


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_record_that_is_no_object(tmp_path, name):
    path = save(tmp_path / name, '{"text": "a"}\n["text"]\n')
    assert message(path) == (
        f"{path}, line 2: a record must be a JSON object with named fields; found a list."
    )


@pytest.mark.parametrize(
    ("name", "place"),
    [("a.jsonl", "line 2"), ("a.csv", "line 2"), ("a.txt", "byte 7"), ("a.json", "byte 7")],
)
def test_undecodable_bytes_name_the_place(tmp_path, name, place):
    path = save(tmp_path / name, b"{}  \n\xc3\xa4\xff\n")
    assert (
        message(path) == f"{path}, {place}: bytes that are no UTF-8 text; save the file as UTF-8."
    )


def test_a_character_that_is_cut_off_at_the_end(tmp_path):
    path = save(tmp_path / "a.txt", b"text\xc3")
    assert f"{path}, byte 4: bytes that are no UTF-8" in message(path)


def test_a_csv_row_with_too_many_columns(tmp_path):
    path = save(tmp_path / "a.csv", "text,b\n1,2\n\n1,2,3\n")
    assert message(path) == f"{path}, line 4: 3 columns where the first line names 2."


def test_a_csv_quote_that_is_not_closed(tmp_path):
    path = save(tmp_path / "a.csv", 'text\n"open\n')
    assert message(path).startswith(f"{path}, line 2: malformed CSV: ")


def test_a_parquet_file_that_is_none(tmp_path):
    path = save(tmp_path / "a.parquet", gzip.compress(b"something else"))
    assert message(path).startswith(f"{path} is no readable parquet file: ")


def test_a_damaged_saved_folder(tmp_path):
    folder = tmp_path / "saved"
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)
    (folder / "state.json").write_text("{}")
    assert message(folder).startswith(f"{folder} is no readable data set folder: ")


def test_a_file_that_cannot_be_read(tmp_path):
    path = save(tmp_path / "a.jsonl", '{"text": "a"}')
    source = find_source(str(path), "train")
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError) as caught:
        list(read_records(source, columns_of_interest(None)))
    assert str(caught.value) == f"{path} cannot be read: Is a directory."
