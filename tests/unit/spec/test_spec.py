"""Counts that follow from a specification, and that it cannot change."""

from dataclasses import FrozenInstanceError

import pytest

from outsize.spec.model import LayerSpec, ModelSpec
from outsize.spec.tensor import DTYPE_BYTES, TensorSpec
from outsize.spec.workload import TrainWorkload


def tensor(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, shape=shape, weight_decay=True)


EMBEDDING = LayerSpec(
    name="embed", kind="embedding", signature="e", tensors=(tensor("table", 10, 4),)
)
BLOCK = LayerSpec(
    name="block.0",
    kind="block",
    signature="b",
    tensors=(tensor("up", 4, 4), tensor("norm", 4), tensor("scale")),
)
HEAD = LayerSpec(name="head", kind="head", signature="h", tensors=())
MODEL = ModelSpec(
    architecture="Tiny",
    layers=(EMBEDDING, BLOCK, HEAD),
    hidden_size=4,
    vocab_size=10,
    tied="table",
    projection="table",
    attention_heads=0,
    attention_head_size=0,
    max_positions=None,
)


@pytest.mark.parametrize(("shape", "count"), [((), 1), ((5,), 5), ((2, 3, 4), 24), ((3, 0), 0)])
def test_elements_of_a_tensor(shape, count):
    assert tensor("any", *shape).num_elements == count


def test_elements_of_layers_and_model():
    assert [layer.num_elements for layer in MODEL.layers] == [40, 21, 0]
    assert MODEL.num_elements == 61


def test_a_tensor_is_found_by_its_name():
    assert MODEL.tensor("norm") is BLOCK.tensors[1]


def test_counts_of_a_workload():
    workload = TrainWorkload(
        rows_per_step=12, micro_batch_rows=3, seq_length=100, dtype="bfloat16", clip=True
    )
    assert workload.num_micro_batches == 4
    assert workload.micro_batch_tokens == 300
    assert workload.tokens_per_step == 1200


def test_a_specification_does_not_change():
    with pytest.raises(FrozenInstanceError):
        MODEL.hidden_size = 8


def test_bytes_of_compute_dtypes():
    assert DTYPE_BYTES == {"float32": 4, "bfloat16": 2}
