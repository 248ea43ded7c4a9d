"""Two processes never use one run folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import outsize
from outsize.errors import RunError, StorageError
from outsize.store.lock import RunLock

HOLD = """
import sys
from pathlib import Path
from outsize.store.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_by_the_pid_of_the_first(tmp_path):
    source = str(Path(outsize.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunError) as caught:
            RunLock(tmp_path)
        process.kill()
    assert str(caught.value) == (
        f"{tmp_path} is in use by process {process.pid}.\n"
        "  Wait for it to end, stop it, or choose another --output."
    )
    RunLock(tmp_path).release()  # the lock of a killed process is free


def test_a_released_lock_can_be_taken_again(tmp_path):
    with RunLock(tmp_path) as lock:
        assert (tmp_path / "run.lock").read_text() == str(os.getpid())
    lock.release()
    with RunLock(tmp_path), pytest.raises(RunError, match=f"by process {os.getpid()}"):
        RunLock(tmp_path)
    assert (tmp_path / "run.lock").read_text() == ""


def test_a_holder_that_has_not_written_its_pid_yet_is_another_process(tmp_path):
    with RunLock(tmp_path):
        os.truncate(tmp_path / "run.lock", 0)
        with pytest.raises(RunError, match="is in use by another process"):
            RunLock(tmp_path)


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"Locking .*none failed: No such file"):
        RunLock(tmp_path / "none")
