"""A process that commits in a loop is killed at random instants; what it committed is there."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import outsize
from outsize.store.journal import Journal, create_journal

COMMIT_LOOP = """
import sys
from pathlib import Path
from outsize.store.journal import Journal
journal = Journal(Path(sys.argv[1]))
step = (journal.latest() or {"step": 0})["step"]
while True:
    step += 1
    journal.append({"step": step, "table": [step] * (step * 7 % 2000)})
    print(step, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_the_last_commit_survives_kill_at_any_instant(tmp_path, seed):
    chance = random.Random(seed)
    path = tmp_path / "journal.bin"
    create_journal(path, capacity_bytes=50_000)
    committed = 0
    for _ in range(4):
        reported = commit_until_killed(path, num_commits=chance.randint(1, 60))
        record = Journal(path).latest()
        assert record is not None
        assert record["step"] in (reported, reported + 1)
        assert reported > committed
        assert record["table"] == [record["step"]] * (record["step"] * 7 % 2000)
        committed = record["step"]


def commit_until_killed(path: Path, *, num_commits: int) -> int:
    """Returns the last commit whose `append` is known to have returned."""
    source = str(Path(outsize.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", COMMIT_LOOP, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert process.stdout is not None
    with process.stdout:
        lines = [process.stdout.readline() for _ in range(num_commits)]
        process.kill()
        process.wait()
        lines += process.stdout.read().splitlines(keepends=True)
    return int([line for line in lines if line.endswith("\n")][-1])
