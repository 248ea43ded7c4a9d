"""A process that died before its run began leaves things behind that are no obstacle."""

from pathlib import Path

import pytest

from outsize.errors import RunError
from outsize.probe.disk import measure_disk
from outsize.train.options import TrainOptions
from outsize.train.run_folder import RunFolder

OPTIONS = TrainOptions(model="m", data="d")


def test_a_folder_of_a_run_that_never_began_is_used_again(tmp_path: Path) -> None:
    for name in ("model", "data", "evaluation"):
        (tmp_path / name).mkdir()
    for name in ("run.lock", "run.json.new", ".probe"):
        (tmp_path / name).touch()
    folder = RunFolder.create(tmp_path, OPTIONS)
    assert folder.path == tmp_path
    folder.close()


def test_the_file_that_is_foreign_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(RunError, match=r"is not empty \(it holds thesis.txt\); choose another"):
        RunFolder.create(tmp_path, OPTIONS)


def test_the_probe_of_a_dead_process_is_replaced_and_removed(tmp_path: Path) -> None:
    (tmp_path / ".probe").write_bytes(b"left behind")
    rates = measure_disk(tmp_path)
    assert rates.read_bytes_per_s > 0
    assert rates.write_bytes_per_s > 0
    assert list(tmp_path.iterdir()) == []
