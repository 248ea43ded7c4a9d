"""What a plan refuses because the run would, before anything is planned in earnest."""

import json
from pathlib import Path
from typing import Any

import pytest

import outsize
from outsize.errors import BudgetError, DataError, UsageError
from outsize.train import workload
from outsize.train.budgets import LEAST_HOST_BYTES
from outsize.train.plan_result import PlanResult
from tiny_llama import CONFIG

MIB = 2**20


@pytest.fixture
def model(tmp_path: Path) -> str:
    """So small that its plan needs less than the libraries do while they are imported."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return str(tmp_path)


def plan(model: str, **changes: Any) -> PlanResult:
    settings = {"machine": "laptop", "tokens_per_step": 64, "max_seq_length": 64}
    return outsize.plan(model, **(settings | changes))


def test_less_than_any_run_starts_with_is_refused_and_never_named(model: str) -> None:
    with pytest.raises(BudgetError) as caught:
        plan(model, memory=LEAST_HOST_BYTES - MIB)
    error = caught.value
    assert (error.needed_bytes, error.budget_bytes) == (LEAST_HOST_BYTES, LEAST_HOST_BYTES - MIB)
    (remedy,) = error.remedies
    option, size = remedy.change.split()
    assert option == "--memory"
    found = plan(model, memory=size)
    assert found.predicted_peak_bytes.host < LEAST_HOST_BYTES <= found.budget_bytes.host
    assert plan(model, objective="memory").budget_bytes.host >= LEAST_HOST_BYTES
    least, *_ = plan(model, frontier=True).frontier
    assert least.budget_bytes >= LEAST_HOST_BYTES


@pytest.mark.parametrize("machine", ["laptop", "workstation-24gb"])
def test_a_plan_of_too_many_micro_batches_is_never_begun(
    model: str, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "MOST_PASSES", 8)  # two micro-batches through four layers
    found = plan(model, machine=machine, tokens_per_step=2**16)
    assert (found.num_micro_batches, found.micro_batch_size) == (2, 512)
    with pytest.raises(UsageError, match=r"through 4 layers a step may pass 2 of them\. Try --mic"):
        plan(model, machine=machine, tokens_per_step=2**16, micro_batch_size=1)


def test_evaluation_data_that_is_not_there_is_refused(model: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("All happy families are alike. " * 100)
    for data in (str(tmp_path / "a.txt"), None):
        with pytest.raises(DataError, match=r"There is no data at 'nowhere\.jsonl'"):
            plan(model, data=data, evaluation_data="nowhere.jsonl")
