"""`outsize verify` on tiny models: every case is equal, and a difference would be seen."""

from pathlib import Path

import pytest
from tiny_run import write_model

import outsize
from outsize.options import VerifyOptions
from outsize.runtime.events import Event, PhaseAdvanced, PhaseFinished, PhaseStarted
from outsize.train.verify import verify


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_model_is_verified(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    events: list[Event] = []
    result = outsize.verify(
        str(model), memory="2GiB", steps=3, quick=True, layers=2, work=str(tmp_path / "work"),
        tokens_per_step=128, max_seq_length=32, on_event=events.append,
    )  # fmt: skip
    assert result.equal
    assert (result.num_layers, result.num_layers_model, len(result.cases)) == (2, 3, 1)
    assert result.cases[0].accumulation == 4
    assert result.budget_bytes.host == 2 * 2**30
    started = next(e for e in events if isinstance(e, PhaseStarted) and e.phase == "verify")
    advanced = [e.done for e in events if isinstance(e, PhaseAdvanced)]
    assert advanced == list(range(1, (started.total or 0) + 1))
    assert [e.phase for e in events if isinstance(e, PhaseFinished)] == ["model", "verify"]
    assert not (tmp_path / "work").exists()


def test_a_model_without_weights_and_a_difference_that_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model")
    (model / "model.safetensors").unlink()
    run_isolated = verify.run_isolated

    def disturbed(function: str, arguments: dict) -> dict:
        """Tell plain PyTorch another weight decay than the streamed side in the second case."""
        plain = function.endswith("train_plain")
        if plain and not arguments["options"]["max_grad_norm"]:
            changed = arguments["options"] | {"weight_decay": 0.2}
            arguments = arguments | {"options": changed}
        return run_isolated(function, arguments)

    monkeypatch.setattr(verify, "run_isolated", disturbed)
    options = VerifyOptions(
        model=str(model), memory_bytes=2 * 2**30, steps=2, dtypes=("float32",),
        tokens_per_step=32, max_seq_length=32, work=str(tmp_path),
    )  # fmt: skip
    result = verify.run_verify(options, lambda event: None)
    first, second = result.cases
    assert first.equal
    assert not second.equal
    assert second.max_difference_weights > 0
    assert second.max_difference_losses > 0
    assert not result.equal
