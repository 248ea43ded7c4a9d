"""Values for training from scratch."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from outsize.errors import ModelError
from outsize.models.initialise import initial_values, initialise_tensor
from outsize.models.registry import build, plain_model

SMALL = {"vocab_size": 211, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = {
    "llama": {**SMALL, "model_type": "llama", "intermediate_size": 96, "pad_token_id": 5},
    "gemma3": {
        **SMALL,
        "model_type": "gemma3_text",
        "intermediate_size": 96,
        "num_key_value_heads": 2,
        "head_dim": 8,
    },
    "gpt2": {"model_type": "gpt2", "vocab_size": 211, "n_embd": 64, "n_head": 2, "n_layer": 8},
    "phi": {**SMALL, "model_type": "phi", "intermediate_size": 96},
}


def all_values(model, seed: int) -> dict[str, torch.Tensor]:
    layers = [initial_values(model, index, seed) for index in range(len(model.spec.layers))]
    return {name: value for layer in layers for name, value in layer.items()}


@pytest.mark.parametrize("family", CONFIGS)
def test_values_are_distributed_as_those_of_the_plain_model(family) -> None:
    values = all_values(build(CONFIGS[family], torch.bfloat16), seed=0)
    plain = dict(plain_model(CONFIGS[family], torch.float32).named_parameters())
    assert values.keys() == plain.keys()
    for name, expected in plain.items():
        assert values[name].dtype == torch.float32
        assert values[name].shape == expected.shape
        torch.testing.assert_close(values[name].std(), expected.std(), rtol=0.1, atol=1e-8)
        torch.testing.assert_close(values[name].mean(), expected.mean(), rtol=0.1, atol=3e-3)


def test_padding_row_is_zero() -> None:
    model = build(CONFIGS["llama"], torch.float32)
    table = initial_values(model, 0, 0)["model.embed_tokens.weight"]
    assert torch.count_nonzero(table[5]) == 0
    assert torch.count_nonzero(table[6]) == 64


def test_values_depend_on_seed_and_name_alone() -> None:
    model = build(CONFIGS["llama"], torch.float32)
    first, again = all_values(model, 7), all_values(build(CONFIGS["llama"], torch.bfloat16), 7)
    other = all_values(model, 8)
    name, sibling = (f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2))
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], first[sibling])


def test_values_are_drawn_where_the_caller_says_and_nowhere_else() -> None:
    model = build({**CONFIGS["llama"], "vocab_size": 2**16}, torch.bfloat16)
    values = {t.name: torch.empty(t.shape) for t in model.spec.layers[0].tensors}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model.initialise(0, 0, values)
    table = values["model.embed_tokens.weight"]
    assert table.nbytes == 2**24
    assert bool(table.any())
    assert max(event.self_cpu_memory_usage for event in profiler.events()) <= 2**20


def test_model_and_global_random_state_are_left_as_they_were() -> None:
    model = build(CONFIGS["llama"], torch.float32)
    before = torch.random.get_rng_state()
    all_values(model, 0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(p.device.type == "meta" for b in model._skeleton.blocks for p in b.parameters())


def test_a_parameter_without_rule_is_refused() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(3, device="meta"))

    causal = build(CONFIGS["llama"], torch.float32)._skeleton.causal
    with pytest.raises(ModelError) as refusal:
        initialise_tensor(causal, Gate(), "weight", "gate.weight", 0, torch.empty(3))
    assert str(refusal.value) == (
        "LlamaForCausalLM does not say how gate.weight is initialised, so it cannot be trained "
        "from scratch; start from a folder with weights."
    )
