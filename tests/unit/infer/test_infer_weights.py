"""Layers that stay are read once; the others are read again when their slot was lent."""

from collections import Counter

import numpy as np
import pytest
import torch

from outsize.formats.source import Float32Array
from outsize.infer.room import arena_bytes
from outsize.infer.weights import Weights
from outsize.spec.model import LayerSpec, ModelSpec
from outsize.spec.tensor import TensorSpec
from outsize.store.arena import HostArena

HIDDEN, VOCAB = 4, 10


def tensor(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, shape=shape, weight_decay=True)


def model(tied: bool) -> ModelSpec:
    blocks = [("block", f"b{i}", (tensor(f"b{i}.w", 3, HIDDEN), tensor(f"b{i}.s"))) for i in (1, 2)]
    head = () if tied else (tensor("head.w", VOCAB, HIDDEN),)
    parts = [
        ("embedding", "e", (tensor("table", VOCAB, HIDDEN), tensor("positions", 5, HIDDEN))),
        *blocks,
        ("head", "h", (tensor("norm", HIDDEN), *head)),
    ]
    return ModelSpec(
        architecture="A",
        layers=tuple(
            LayerSpec(name=name, kind=kind, signature=kind, tensors=tensors)
            for kind, name, tensors in parts
        ),
        hidden_size=HIDDEN,
        vocab_size=VOCAB,
        tied="table" if tied else None,
        projection=None,
        max_positions=None,
        attention_heads=0,
        attention_head_size=0,
    )


class CountingSource:
    """Values that tell where they come from, and how often each tensor was read."""

    def __init__(self, spec: ModelSpec) -> None:
        names = [t for layer in spec.layers for t in layer.tensors]
        self.values = {
            t.name: np.arange(t.num_elements, dtype=np.float32) + 100 * i
            for i, t in enumerate(names)
        }
        self.reads = Counter()

    def read(self, name: str, start: int, stop: int) -> Float32Array:
        self.reads[name] += 1
        return self.values[name][start:stop]


def make(tied: bool, resident: tuple[int, ...]) -> tuple[Weights, CountingSource]:
    spec = model(tied)
    source = CountingSource(spec)
    weights = Weights(spec, source, "table", torch.float32)
    weights.place(HostArena(arena_bytes(weights.layer_bytes, resident)), resident)
    return weights, source


@pytest.mark.parametrize("resident", [(), (1,), (0, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("tied", [True, False])
def test_every_layer_has_its_values_whenever_it_is_asked_for(tied, resident) -> None:
    weights, source = make(tied, resident)
    for index in (0, 1, 2, 3, 1, 1, 3, 0):
        found = weights.parameters(index)
        assert found
        for name, values in found.items():
            assert np.array_equal(values.reshape(-1).numpy(), source.values[name]), name


def test_a_layer_that_stays_is_read_once() -> None:
    weights, source = make(tied=True, resident=(1,))
    for _ in range(3):
        weights.parameters(1)
        weights.parameters(2)
        weights.parameters(2)
        weights.parameters(3)
    assert (source.reads["b1.w"], source.reads["b2.w"], source.reads["norm"]) == (1, 3, 3)


def test_the_table_belongs_to_a_tied_head_alone() -> None:
    tied, untied = make(tied=True, resident=())[0], make(tied=False, resident=())[0]
    assert list(tied.views(3)) == ["norm", "table"]
    assert list(untied.views(3)) == ["norm", "head.w"]
    assert list(tied.views(0)) == list(untied.views(0)) == ["positions"]


@pytest.mark.parametrize("resident", [(), (3,)])
@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_the_table_are_read_alone(tied, resident) -> None:
    weights, source = make(tied, resident)
    expected = source.values["table"].reshape(VOCAB, HIDDEN)[[2, 7]]
    assert np.array_equal(weights.table_rows(torch.tensor([2, 7])).numpy(), expected)
    assert source.reads["table"] == 2
    weights.parameters(3)
    assert np.array_equal(weights.table_rows(torch.tensor([2, 7])).numpy(), expected)
    assert source.reads["table"] == (3 if tied else 4)  # a table in memory is not read again


def test_weights_are_rounded_as_torch_rounds_them() -> None:
    spec = model(tied=True)
    source = CountingSource(spec)
    source.values["b1.w"] = np.linspace(-1, 1, 12, dtype=np.float32)
    weights = Weights(spec, source, "table", torch.bfloat16)
    weights.place(HostArena(arena_bytes(weights.layer_bytes, ())), ())
    expected = torch.from_numpy(source.values["b1.w"]).to(torch.bfloat16).view(3, HIDDEN)
    assert torch.equal(weights.parameters(1)["b1.w"], expected)
