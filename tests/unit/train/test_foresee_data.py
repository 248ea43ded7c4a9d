"""How much a run has to do, before anything is tokenised: rows, steps, and what they take."""

import json
from pathlib import Path

import pytest

from outsize.train.data.manifest import DatasetInfo, write_info
from outsize.train.foresee_data import ExpectedRun, expected_run
from outsize.train.options import PlanOptions
from outsize.train.totals import Steps

TOKENIZER_BYTES = 4 * 2**20
ROW_BYTES = 4 * (3 * 512 + 1)
"""Three numbers a token, and one a row."""


def chats(path: Path, count: int) -> str:
    """Write chats of 110 tokens: four of them share a row of 512."""
    messages = [{"role": role, "content": "x" * 200} for role in ("user", "assistant")]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for _ in range(count)))
    return str(path)


def expected(**changes: object) -> ExpectedRun:
    settings = {"tokens_per_step": 2048, "max_seq_length": 512, "dry_run": True}
    return expected_run(PlanOptions(model="m", **(settings | changes)))


@pytest.mark.parametrize(("packing", "rows", "steps"), [(True, 25, 7), (False, 100, 25)])
def test_rows_are_those_of_the_packer(packing, rows, steps, tmp_path) -> None:
    found = expected(data=chats(tmp_path / "a.jsonl", 100), packing=packing)
    assert found.steps == Steps(count=steps, known_from=f"about {rows} rows of data")
    assert found.other_bytes == {"tokenizer and data": TOKENIZER_BYTES + rows * ROW_BYTES}


def test_rows_that_are_set_aside_are_evaluated_and_lie_on_the_disk(tmp_path) -> None:
    data = chats(tmp_path / "a.jsonl", 100)
    found = expected(data=data, packing=False, evaluation_fraction=0.1, epochs=2.0)
    assert found.steps == Steps(count=45, known_from="about 90 rows of data", evaluation_rows=10)
    assert found.other_bytes == {"tokenizer and data": TOKENIZER_BYTES + 100 * ROW_BYTES}


def test_evaluation_data_of_its_own_lie_on_the_disk_too(tmp_path) -> None:
    data, more = chats(tmp_path / "a.jsonl", 100), chats(tmp_path / "b.jsonl", 30)
    found = expected(data=data, packing=False, evaluation_data=more, steps=3)
    assert found.steps == Steps(count=3, known_from="asked for", evaluation_rows=30)
    assert found.other_bytes == {"tokenizer and data": TOKENIZER_BYTES + 130 * ROW_BYTES}


def test_what_cannot_be_told_is_not_guessed() -> None:
    assert expected().steps is None
    assert expected(data="org/name").steps is None
    found = expected(data="org/name", steps=2, evaluation_fraction=0.1)
    assert found.steps == Steps(count=2, known_from="asked for", evaluation_rows=None)
    assert found.other_bytes == {"tokenizer and data": TOKENIZER_BYTES}
    assert expected(data="org/name", steps=2).steps == Steps(count=2, known_from="asked for")


@pytest.mark.parametrize(
    ("changes", "folder"),
    [({"evaluation_fraction": 0.5}, "data/evaluation"), ({"evaluation_data": "d"}, "evaluation")],
)
def test_a_run_that_goes_on_has_the_rows_that_lie_in_it(changes, folder, tmp_path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "num_steps": 9}))
    write_rows(tmp_path / folder, 6)
    found = expected(resume=str(tmp_path), **changes)
    assert found.steps == Steps(count=9, known_from="as the run began", evaluation_rows=6)
    (size,) = found.other_bytes.values()
    assert 0 < size < 2**20


def write_rows(folder: Path, num_rows: int) -> None:
    """Leave what tells of so many rows."""
    info = DatasetInfo(
        num_rows=num_rows, seq_length=512, num_truncated=0, num_dropped=0, num_evaluation_rows=0,
        shape="text", source="d", fingerprint="f", tokenizer_hash="t",
    )  # fmt: skip
    folder.mkdir(parents=True)
    write_info(folder, info)
