"""Bytes are predicted exactly, also when the steps pause for evaluations."""

from pathlib import Path

import pytest
from tiny_run import write_model

import outsize
from outsize.errors import FormatError


def text(folder: Path) -> str:
    data = folder / "data.txt"
    data.write_text("\n".join(f"{i} times {i} is {i * i}." for i in range(400)))
    return str(data)


@pytest.mark.parametrize("evaluation_steps", [None, 1, 2, 3, 4])
def test_bytes_with_evaluations_are_predicted_exactly(tmp_path: Path, evaluation_steps) -> None:
    result = outsize.train(
        str(write_model(tmp_path / "model")), data=text(tmp_path), steps=4, tokens_per_step=128,
        max_seq_length=64, evaluation_fraction=0.2, evaluation_steps=evaluation_steps,
        output=str(tmp_path / "run"), memory="8GiB", commit_seconds=1e9,
    )  # fmt: skip
    assert result.bytes_read == result.predicted_bytes_read > 0
    assert result.bytes_written == result.predicted_bytes_written > 0


def test_a_plan_refuses_damaged_weights_as_the_run_does(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(FormatError, match=r"model.safetensors is truncated"):
        outsize.plan(
            str(model), data=text(tmp_path), steps=4, tokens_per_step=128, max_seq_length=64,
            memory="8GiB",
        )  # fmt: skip
