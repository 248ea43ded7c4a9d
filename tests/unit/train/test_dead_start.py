"""A process that died before its run began leaves things behind that are no obstacle."""

from pathlib import Path

import pytest

from outsize.errors import ModelError, RunError, StorageError
from outsize.probe.scratch import SCRATCH_PREFIX, scratch_file
from outsize.probe.sizes import DiskSizes
from outsize.runtime.events import ignore
from outsize.train.launch import launch
from outsize.train.options import TrainOptions
from outsize.train.run_folder import RunFolder

OPTIONS = TrainOptions(model="m", data="d")


def test_a_folder_of_a_run_that_never_began_is_used_again(tmp_path: Path) -> None:
    for name in ("model", "data", "evaluation"):
        (tmp_path / name).mkdir()
    for name in ("run.lock", "run.json.new", f"{SCRATCH_PREFIX}0123"):
        (tmp_path / name).touch()
    folder = RunFolder.create(tmp_path, OPTIONS)
    assert folder.path == tmp_path
    folder.close()


def test_the_file_that_is_foreign_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "run.lock").touch()
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(RunError, match=r"is not empty \(it holds thesis.txt\); choose another"):
        RunFolder.create(tmp_path, OPTIONS)


def test_folders_of_the_user_are_no_leftovers(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(RunError, match=r"is not empty \(it holds data\)"):
        RunFolder.create(tmp_path, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("was_there", [False, True])
def test_a_start_that_fails_leaves_nothing(tmp_path: Path, was_there: bool) -> None:
    output = tmp_path / "run"
    if was_there:
        output.mkdir()
    options = TrainOptions(model=str(tmp_path / "no-model"), data="d", output=str(output))
    with pytest.raises(ModelError), launch(options, ignore):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == (["run"] if was_there else [])
    assert not was_there or list(output.iterdir()) == []


def test_a_full_disk_is_told_as_what_it_is(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", OPTIONS)
    folder.metrics.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"metrics.jsonl failed: No space left.*\n.*then resume"):
        folder.log({"step": 1})
    folder.close()


def test_a_lost_journal_is_no_new_beginning(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", OPTIONS)
    assert not folder.has_commit()
    folder.log({"step": 1})
    with pytest.raises(RunError, match=r"has lost its journal.bin"):
        folder.has_commit()
    folder.close()


def test_the_probe_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{SCRATCH_PREFIX}0123").write_bytes(b"left behind")
    sizes = DiskSizes(
        block_bytes=(2**16,), section_bytes=2**18, pass_s=0.01, pass_bytes=2**18, together_s=0.01
    )
    with scratch_file(tmp_path, sizes, lambda text: None):
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be used: File name too long .*--output"):
        RunFolder.create(tmp_path / ("x" * 300), OPTIONS)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot be used: Not a directory .*--output"):
        RunFolder.create(tmp_path / "file" / "run", OPTIONS)
