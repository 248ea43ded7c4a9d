import os
from pathlib import Path

import pytest

from outsize.errors import DataError
from outsize.train.data.source import find_source


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def names(source, folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in source.files]


def message(name: object, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        find_source(str(name), split)
    return str(caught.value)


def test_a_file_is_itself(tmp_path):
    touch(tmp_path, "a.TXT")
    source = find_source(str(tmp_path / "a.TXT"), "train")
    assert (source.kind, source.size_bytes, names(source, tmp_path)) == ("files", 1, ["a.TXT"])


def test_a_folder_gives_its_data_files_in_order_and_counts_the_others(tmp_path):
    touch(tmp_path, "b.jsonl", "a.txt", "sub/c.csv", "README.md", ".hidden/d.txt")
    source = find_source(str(tmp_path), "train")
    assert names(source, tmp_path) == ["a.txt", "b.jsonl", "sub/c.csv"]
    assert source.num_files_skipped == 1


def test_a_split_is_taken_by_the_words_of_file_names(tmp_path):
    touch(tmp_path, "data/train-00000-of-00001.parquet", "data/test-00000.parquet", "val.jsonl")
    assert names(find_source(str(tmp_path), "train"), tmp_path) == [
        "data/train-00000-of-00001.parquet"
    ]
    assert names(find_source(str(tmp_path), "validation"), tmp_path) == ["val.jsonl"]


def test_files_without_a_split_in_their_name_are_for_training(tmp_path):
    touch(tmp_path, "one.txt", "latest.txt", "test.txt")
    source = find_source(str(tmp_path), "train")
    assert names(source, tmp_path) == ["latest.txt", "one.txt"]
    assert source.num_files_skipped == 1


def test_a_missing_split_names_those_found(tmp_path):
    touch(tmp_path, "test.txt")
    assert message(tmp_path) == (
        f"The folder {tmp_path} holds no file of the split 'train'; "
        "splits found by file name: test."
    )


def test_a_glob_gives_its_matches_in_order(tmp_path):
    touch(tmp_path, "b.txt", "a.txt", "c.csv")
    assert names(find_source(str(tmp_path / "*.txt"), "train"), tmp_path) == ["a.txt", "b.txt"]


def test_a_glob_without_a_match(tmp_path):
    assert message(tmp_path / "*.txt") == f"The pattern '{tmp_path}/*.txt' matches no file."


def test_a_missing_file(tmp_path):
    path = tmp_path / "no.jsonl"
    assert message(path) == f"There is no data at '{path}': no such file or folder."


def test_a_missing_relative_file_is_not_looked_up_on_the_hub():
    assert (
        message("data/no.jsonl") == "There is no data at 'data/no.jsonl': no such file or folder."
    )


def test_an_unknown_extension(tmp_path):
    touch(tmp_path, "a.pdf", "noextension")
    known = "known are .txt, .jsonl, .json, .csv, .parquet."
    assert message(tmp_path / "a.pdf") == (
        f"{tmp_path}/a.pdf has the extension '.pdf', which is not known; {known}"
    )
    assert "has the extension '(none)'" in message(tmp_path / "noextension")
    assert "has the extension '.pdf'" in message(tmp_path / "*.pdf")


def test_a_folder_without_data(tmp_path):
    touch(tmp_path, "README.md")
    assert message(tmp_path) == (
        f"The folder {tmp_path} holds no file of .txt, .jsonl, .json, .csv, .parquet."
    )


def test_an_unknown_builtin():
    assert message("builtin:nothing") == (
        "There is no built-in data 'builtin:nothing'; the one there is: builtin:python-reference."
    )


def test_identity_changes_with_the_file_and_not_with_how_it_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "a.txt")
    path = tmp_path / "a.txt"
    os.utime(path, (1, 1))
    first = find_source(str(path), "train").identity()
    monkeypatch.chdir(tmp_path)
    assert find_source("a.txt", "train").identity() == first
    os.utime(path, (2, 2))
    assert find_source(str(path), "train").identity() != first


def test_identity_of_the_builtin_is_its_text():
    identity = find_source("builtin:python-reference", "train").identity()
    assert len(str(identity[3])) == 64
