"""Runs with one copy of their state: the same result on half the disk, and after a kill either the
same result or a refusal, never a wrong one.
"""

import random
from pathlib import Path

import pytest
from killed_runs import NUM_STEPS, RESIDENT_BYTES, STREAMED_BYTES, Server, losses_in, make_folder

from outsize.errors import RunError
from outsize.plan.layout import Layout
from outsize.store.journal import Journal
from outsize.store.store import layout_bytes
from outsize.train.committed import CommittedWeights, read_layout
from outsize.train.state_file import durable_extents

NUM_KILLS = 16
MOST_CALLS = 160


@pytest.fixture(scope="module")
def reference(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("reference") / "run")
    assert "result" in server.train(folder)
    return folder


def checksums(folder: Path) -> object:
    record = Journal(folder / "journal.bin").latest()
    assert record is not None
    return record["checksums"]


@pytest.mark.parametrize("arena_bytes", [STREAMED_BYTES, RESIDENT_BYTES])
def test_the_result_is_the_same_on_half_the_disk(
    server: Server, reference: Path, tmp_path: Path, arena_bytes: int
) -> None:
    folder = make_folder(tmp_path / "run")
    answer = server.train(folder, arena_bytes=arena_bytes, in_place=True)
    assert answer["result"]["steps"] == NUM_STEPS
    assert losses_in(folder) == losses_in(reference)
    assert checksums(folder) == checksums(reference)
    one, two = read_layout(folder), read_layout(reference)
    assert state_bytes(one) * 2 == state_bytes(two)
    assert (folder / "state.bin").stat().st_size == state_bytes(one)
    weights = CommittedWeights(folder, print)  # and can be exported
    weights.close()
    again = server.train(folder, in_place=True)["result"]
    assert (again["resumed_from"], again["steps"]) == (NUM_STEPS, NUM_STEPS)


def state_bytes(layout: Layout) -> int:
    return layout_bytes(durable_extents(layout))


@pytest.mark.parametrize("arena_bytes", [STREAMED_BYTES, RESIDENT_BYTES])
def test_a_kill_is_survived_or_refused_and_never_goes_unseen(
    server: Server, reference: Path, tmp_path: Path, arena_bytes: int
) -> None:
    chance = random.Random(arena_bytes)
    survived = refused = 0
    for number in range(NUM_KILLS):
        folder = make_folder(tmp_path / str(number))
        answer = server.train(
            folder,
            stop_at=chance.randint(40, MOST_CALLS),
            how=chance.choice(["before", "half", "after", "power"]),
            arena_bytes=arena_bytes,
            in_place=True,
        )
        assert answer["killed"], answer
        answer = server.train(folder, arena_bytes=arena_bytes, in_place=True)
        if "result" in answer:
            survived += 1
            assert losses_in(folder) == losses_in(reference)
            assert checksums(folder) == checksums(reference)
        else:
            refused += 1
            assert answer["error"]["kind"] == "run"
            assert "--in-place" in answer["error"]["message"]
            with pytest.raises(RunError, match="no whole state is left"):
                CommittedWeights(folder, print)
    assert refused
    assert survived or arena_bytes == STREAMED_BYTES  # whose steps change the state all the time


def test_a_drive_that_fails_in_a_step_says_that_the_run_is_lost(
    server: Server, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "run")
    answer = server.train(folder, stop_at=150, how="EIO", only="pwritev state.bin", in_place=True)
    message = answer["error"]["message"]
    assert "Input/output error (EIO)" in message
    assert "cannot go on; start a new run" in message
    assert "resume" not in message
    assert server.train(folder, in_place=True)["error"]["kind"] == "run"
