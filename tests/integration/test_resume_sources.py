"""A run that has committed something goes on without the files that it was made from."""

import shutil
from pathlib import Path

import pytest
from tiny_run import train_tiny

import outsize
from outsize.errors import RunError


def test_a_run_goes_on_with_its_own_rows_and_model(tmp_path: Path) -> None:
    """The data have changed and the model is gone: nothing of either is looked at again."""
    first = train_tiny(tmp_path)
    run = tmp_path / "run"
    rows = {path.name: path.read_bytes() for path in (run / "data").iterdir() if path.is_file()}
    shutil.rmtree(tmp_path / "model")
    with (tmp_path / "data.txt").open("a") as file:
        file.write("More text. " * 2000)
    again = outsize.train(resume=str(run), memory="4GiB")
    assert (again.resumed_from, again.steps) == (first.steps, first.steps)
    assert rows == {p.name: p.read_bytes() for p in (run / "data").iterdir() if p.is_file()}


def test_a_run_without_its_journal_is_not_begun_anew(tmp_path: Path) -> None:
    train_tiny(tmp_path)
    state = (tmp_path / "run" / "state.bin").read_bytes()
    (tmp_path / "run" / "journal.bin").unlink()
    with pytest.raises(RunError, match="has lost its journal"):
        outsize.train(resume=str(tmp_path / "run"), memory="4GiB")
    assert (tmp_path / "run" / "state.bin").read_bytes() == state
