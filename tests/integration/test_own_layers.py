"""A `nn.Sequential` of the caller's own: trained inside the budget, exported, and loaded back."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import outsize
from outsize.errors import ModelError, UsageError


class Mix(nn.Module):
    """A block: a residual gated layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return a hidden state of the same shape."""
        return hidden + self.down(torch.relu(self.up(self.norm(hidden))))


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Embedding(49152, 24), Mix(24), Mix(24), nn.Linear(24, 49152))


def train(model: object, tmp_path, **more: object):
    return outsize.train(
        model, data="builtin:python-reference", tokenizer="smollm2-135m", memory="1GiB",
        max_seq_length=64, tokens_per_step=256, output=str(tmp_path / "run"), **more,
    )  # fmt: skip


def test_a_sequential_is_trained_and_exported(tmp_path):
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = train(model, tmp_path, steps=4, learning_rate=3e-3, dtype="float32")
    assert result.model == "Sequential"
    assert result.loss_last < result.loss_first
    outsize.export(str(tmp_path / "run"), output=str(tmp_path / "out"), dtype="float32")
    trained = load_file(tmp_path / "out" / "model.safetensors")
    assert trained.keys() == before.keys()
    assert all(not torch.equal(trained[name], before[name]) for name in before)
    model.load_state_dict(trained)


def test_it_needs_a_tokenizer():
    with pytest.raises(UsageError, match="needs tokenizer="):
        outsize.train(network(), data="builtin:python-reference", memory="1GiB", steps=1)


def test_something_else_is_refused_by_name():
    with pytest.raises(ModelError, match=r"^Linear is no model that can be trained in parts"):
        outsize.train(nn.Linear(2, 2), data="builtin:python-reference", memory="1GiB", steps=1)


def test_floats_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(ModelError, match="hidden_size is needed"):
        outsize.train(model, data="builtin:python-reference", memory="1GiB", steps=1)
