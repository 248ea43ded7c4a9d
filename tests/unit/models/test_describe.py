"""Weight-decay groups and signatures."""

import pytest
import torch
from torch import nn
from transformers.trainer_pt_utils import get_parameter_names

from outsize.models.describe import describe_layer
from outsize.models.registry import build, plain_model

SMALL = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
CONFIGS = {
    "llama": {**SMALL, "model_type": "llama", "intermediate_size": 24, "attention_bias": True},
    "gpt2": {"model_type": "gpt2", "vocab_size": 31, "n_embd": 16, "n_head": 2, "n_layer": 2},
    "gemma2": {
        **SMALL,
        "model_type": "gemma2",
        "intermediate_size": 24,
        "num_key_value_heads": 2,
        "head_dim": 8,
    },
    "phi": {**SMALL, "model_type": "phi", "intermediate_size": 24},
    "stablelm": {
        **SMALL,
        "model_type": "stablelm",
        "intermediate_size": 24,
        "num_key_value_heads": 2,
    },
}
# What `Trainer.get_decay_parameter_names` passes to `get_parameter_names`.
TRAINER_PATTERNS = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


@pytest.mark.parametrize("family", CONFIGS)
def test_weight_decay_is_that_of_the_hugging_face_trainer(family) -> None:
    config = CONFIGS[family]
    plain = plain_model(config, torch.float32)
    known = {name for name, _ in plain.named_parameters()}
    expected = set(get_parameter_names(plain, [nn.LayerNorm], TRAINER_PATTERNS)) & known
    layers = build(config, torch.float32).spec.layers
    assert {t.name for layer in layers for t in layer.tensors if t.weight_decay} == expected


def test_layers_of_a_kind_share_a_signature() -> None:
    blocks = build(CONFIGS["llama"], torch.float32).spec.layers[1:-1]
    assert len({b.signature for b in blocks}) == 1


def test_sliding_and_full_layers_have_different_signatures() -> None:
    signatures = [b.signature for b in build(CONFIGS["gemma2"], torch.float32).spec.layers[1:-1]]
    assert signatures[0] == signatures[2] != signatures[1] == signatures[3]


def test_layers_without_rotary_embedding_have_another_signature() -> None:
    own = {"model_type": "smollm3", "no_rope_layers": [1, 0, 1, 0], "num_key_value_heads": 2}
    config = {**CONFIGS["llama"], **own}
    signatures = [
        b.signature for b in build({**config, "pad_token_id": 0}, torch.float32).spec.layers[1:-1]
    ]
    assert signatures[0] == signatures[2] != signatures[1] == signatures[3]


@pytest.mark.parametrize("other", [nn.Linear(4, 8), nn.Linear(4, 5, bias=False), nn.ReLU()])
def test_shape_bias_and_class_are_part_of_the_signature(other) -> None:
    first, second = (
        describe_layer("x", "block", {"x": module}, frozenset()).signature
        for module in (nn.Linear(4, 5), other)
    )
    assert first != second


def test_a_tied_tensor_belongs_to_the_other_layer() -> None:
    layer = describe_layer("x", "head", {"x": nn.Linear(4, 5)}, frozenset({"x.weight"}))
    assert [t.name for t in layer.tensors] == ["x.bias"]
