"""Looking at a place that a user named never fails, whatever the name is."""

from pathlib import Path

import pytest

from outsize.paths import can_write_file, is_file, is_folder, is_there, user_path

IMPOSSIBLE = {
    "a long name": Path("x" * 300),
    "a long path": Path("x" * 5000),
    "a zero byte": Path("nul\0"),
    "no such home": Path("~no-such-user/a"),
}


def test_a_home_is_replaced_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a") == tmp_path / "a"
    assert user_path("~no-such-user/a") == Path("~no-such-user/a")
    assert user_path("b/~") == Path("b/~")


@pytest.mark.parametrize("path", IMPOSSIBLE.values(), ids=list(IMPOSSIBLE))
def test_nothing_lies_where_nothing_can_lie(path: Path) -> None:
    assert not is_there(path)
    assert not is_file(path)
    assert not is_folder(path)
    assert not can_write_file(path)


def test_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_file(tmp_path / "file")
    assert is_folder(tmp_path)
    assert not is_folder(tmp_path / "file")
    assert not is_file(tmp_path)
    assert is_there(tmp_path / "file")
    assert is_there(tmp_path)


def test_a_file_can_be_written_anew_or_made_in_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert can_write_file(tmp_path / "file")
    assert can_write_file(tmp_path / "new")
    assert not can_write_file(tmp_path)
    assert not can_write_file(tmp_path / "none" / "new")
    assert not can_write_file(tmp_path / "file" / "new")
