"""Processes that train are killed at random instants; what is resumed equals what never stopped.

They are forks of `fork_server.py` that kill themselves in the n-th system call that changes the
drive: before it, in the middle of it, after it, or with a loss of power that undoes what was not
synced. `test_interrupt.py` kills a whole command line from outside.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from killed_runs import (
    NUM_STEPS,
    RESIDENT_BYTES,
    STREAMED_BYTES,
    Server,
    losses_in,
    make_folder,
)

from outsize.runtime.slots import Slots, extent_name
from outsize.store.checksum import checksum_of
from outsize.store.journal import Journal
from outsize.train.committed import read_layout
from outsize.train.state_file import durable_extents, durable_regions

NUM_KILLS = 20
MOST_CALLS = 80
"""Of the drive before a kill: an import and two steps make about as many."""
FIRST_COMMIT_CALLS = 40


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run that committed every step.

    Attributes:
        checksums: of all regions, by step.
        losses: of all steps.
        calls: writing system calls that it made.
    """

    checksums: dict[int, str]
    losses: list[float]
    calls: int


@pytest.fixture(scope="module")
def reference(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = make_folder(tmp_path_factory.mktemp("reference") / "run")
    answer = server.train(folder)
    checksums = {step: sums for kind, step, sums in answer["events"] if kind == "committed"}
    assert sorted(checksums) == list(range(1, NUM_STEPS + 1))
    return Reference(
        checksums=checksums | {0: ""},
        losses=losses_in(folder),
        calls=answer["calls"],
    )


def committed_step(folder: Path, reference: Reference) -> int | None:
    """Return the newest committed step, after a check that all bytes of it are on disk and are
    those of the uninterrupted run; None when there is no commit yet.
    """
    path = folder / "journal.bin"
    record = Journal(path).latest() if path.exists() else None
    if record is None:
        return None
    step, layout = int(str(record["step"])), read_layout(folder)
    assert record["checksums"] == (reference.checksums[step] or record["checksums"])
    slots = Slots.from_record(record, durable_regions(layout))
    offsets = {extent.name: extent.offset_bytes for extent in durable_extents(layout)}
    with (folder / "state.bin").open("rb") as state:
        for region in durable_regions(layout):
            version = slots.newest(region)
            state.seek(offsets[extent_name(region, version.slot)])
            data = state.read(layout.region_bytes[region])
            assert checksum_of(memoryview(data)) == version.checksum, region
    return step


@pytest.mark.parametrize("arena_bytes", [STREAMED_BYTES, RESIDENT_BYTES, None])
def test_twenty_kills_change_nothing(
    server: Server, reference: Reference, tmp_path: Path, arena_bytes: int | None
) -> None:
    chance = random.Random(str(arena_bytes))
    folder, last = make_folder(tmp_path / "run"), None
    for _ in range(NUM_KILLS):
        answer = server.train(
            folder,
            stop_at=chance.randint(1, MOST_CALLS),
            how=chance.choice(["before", "half", "after", "power"]),
            arena_bytes=arena_bytes or chance.choice([STREAMED_BYTES, RESIDENT_BYTES]),
        )
        assert answer["killed"], answer
        found = committed_step(folder, reference)
        assert last is None or (found is not None and found >= last)
        last = found
    assert last is not None
    server.train(folder)
    assert committed_step(folder, reference) == NUM_STEPS
    assert losses_in(folder) == reference.losses


def test_a_run_that_is_killed_before_its_first_commit_starts_over(
    server: Server, reference: Reference, tmp_path: Path
) -> None:
    for stop_at in range(1, FIRST_COMMIT_CALLS, 3):
        folder, how = make_folder(tmp_path / str(stop_at)), ("before", "after")[stop_at % 2]
        assert server.train(folder, stop_at=stop_at, how=how)["killed"]
        assert server.train(folder, stop_at=2 * FIRST_COMMIT_CALLS)["killed"]
        assert committed_step(folder, reference) is not None


@pytest.mark.parametrize(
    ("only", "how", "expected"),
    [
        ("pwritev state.bin", "ENOSPC", "failed: No space left on device (ENOSPC).\n"),
        ("pwritev state.bin", "EIO", "failed: Input/output error (EIO)."),
        ("fdatasync state.bin", "EIO", "state.bin durable failed: Input/output error (EIO)."),
        ("pwritev journal.bin", "ENOSPC", "The record before it stays the newest; make room"),
        ("fdatasync journal.bin", "EIO", "The record before it stays the newest; make room"),
    ],
)
def test_a_drive_that_fails_keeps_the_last_commit(
    server: Server, reference: Reference, tmp_path: Path, only: str, how: str, expected: str
) -> None:
    folder = make_folder(tmp_path / "run")
    first = 150 if only == "pwritev state.bin" else 8
    answer = server.train(folder, stop_at=first, how=how, only=only)
    assert answer["error"]["kind"] == "storage"
    message = answer["error"]["message"]
    assert expected in message
    if how == "ENOSPC" and only == "pwritev state.bin":
        assert "free some space and resume: what was committed before is untouched." in message
    found = committed_step(folder, reference)
    assert found is not None
    assert 0 < found < NUM_STEPS
    assert server.train(folder)["result"]["resumed_from"] == found
    assert losses_in(folder) == reference.losses
    assert committed_step(folder, reference) == NUM_STEPS


def test_a_disk_that_is_full_at_the_import_leaves_no_run(server: Server, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run")
    answer = server.train(folder, stop_at=12, how="ENOSPC")
    assert "No space left on device (ENOSPC)" in answer["error"]["message"]
    assert sorted(path.name for path in folder.iterdir()) == ["data", "model", "run.lock"]
