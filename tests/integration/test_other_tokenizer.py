"""A tokenizer from elsewhere may know more tokens than the model."""

import json
from pathlib import Path

import pytest
from tiny_run import write_model

import outsize
from outsize.errors import DataError


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    small, large = write_model(tmp_path / "small", vocab_size=257), write_model(tmp_path / "large")
    tokenizer = json.loads((large / "tokenizer.json").read_text())
    for content in "abc":
        tokenizer["model"]["vocab"][content] += 200
    (large / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "data.txt").write_text("abc " * 200)
    with pytest.raises(DataError, match="the tokenizer belongs to another model"):
        outsize.train(
            str(small), data=str(tmp_path / "data.txt"), tokenizer=str(large), memory="8GiB",
            steps=1, tokens_per_step=64, max_seq_length=64, output=str(tmp_path / "run"),
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
