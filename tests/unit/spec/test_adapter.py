import math

import pytest

from outsize.errors import UsageError
from outsize.formats.model_spec import spec_from_config
from outsize.spec.adapter import AdapterSettings, adapt
from outsize.spec.model import ModelSpec

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attention_bias": True,
}


@pytest.fixture
def llama() -> ModelSpec:
    return spec_from_config(LLAMA)


def added(model: ModelSpec) -> dict[str, tuple[int, ...]]:
    return {t.name: t.shape for layer in model.layers for t in layer.tensors if t.added}


def test_only_adapters_are_trained(llama: ModelSpec) -> None:
    found = adapt(llama, AdapterSettings(r=4))
    for layer, before in zip(found.layers, llama.layers, strict=True):
        assert [t.name for t in layer.frozen] == [t.name for t in before.tensors]
        assert all(t.added for t in layer.trainable)
    assert found.num_trainable == sum(math.prod(shape) for shape in added(found).values())
    assert found.lowest_trained == 1
    assert not found.trains_table
    assert not found.trains_projection


def test_an_adapter_follows_its_matrix_and_bias(llama: ModelSpec) -> None:
    found = adapt(llama, AdapterSettings(r=4, target_modules=("v_proj",), use_dora=True))
    names = [t.name.removeprefix("model.layers.0.") for t in found.layers[1].tensors]
    first = names.index("self_attn.v_proj.weight")
    assert names[first : first + 6] == [
        "self_attn.v_proj.weight",
        "self_attn.v_proj.bias",
        "self_attn.v_proj.lora_A.weight",
        "self_attn.v_proj.lora_B.weight",
        "self_attn.v_proj.lora_magnitude_vector",
        "self_attn.o_proj.weight",
    ]
    shapes = added(found)
    assert len(shapes) == 9
    assert shapes["model.layers.2.self_attn.v_proj.lora_A.weight"] == (4, 24)
    assert shapes["model.layers.2.self_attn.v_proj.lora_B.weight"] == (12, 4)
    assert shapes["model.layers.2.self_attn.v_proj.lora_magnitude_vector"] == (12,)


def test_gpt2_keeps_its_matrices_the_other_way_round() -> None:
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 24, "n_head": 3}
    found = added(adapt(spec_from_config(config), AdapterSettings(target_modules=("c_attn",))))
    assert found["transformer.h.0.attn.c_attn.lora_A.weight"] == (8, 24)
    assert found["transformer.h.0.attn.c_attn.lora_B.weight"] == (72, 8)


def test_patterns_exclusions_and_layers(llama: ModelSpec) -> None:
    settings = AdapterSettings(
        target_modules=r".*\.(q|k)_proj",
        exclude_modules=("2.self_attn.k_proj",),
        layers_to_transform=(1, 2),
        rank_pattern={"k_proj": 3},
    )
    shapes = added(adapt(llama, settings))
    assert {name: shape[0] for name, shape in shapes.items() if "lora_A" in name} == {
        "model.layers.1.self_attn.q_proj.lora_A.weight": 8,
        "model.layers.1.self_attn.k_proj.lora_A.weight": 3,
        "model.layers.2.self_attn.q_proj.lora_A.weight": 8,
    }
    assert adapt(llama, settings).lowest_trained == 2


def test_the_scale_of_an_adapter() -> None:
    settings = AdapterSettings(r=4, lora_alpha=6, alpha_pattern={r"\d\.mlp\.up_proj": 12})
    assert settings.scaling("model.layers.0.mlp.down_proj") == 1.5
    assert settings.scaling("model.layers.0.mlp.up_proj") == 3
    assert AdapterSettings(r=4, lora_alpha=6, use_rslora=True).scaling("x") == 3


def test_layers_of_other_work_have_other_signatures(llama: ModelSpec) -> None:
    kinds = [
        adapt(llama, settings).layers[1].signature
        for settings in (
            AdapterSettings(),
            AdapterSettings(r=4),
            AdapterSettings(use_dora=True),
            AdapterSettings(lora_dropout=0.1),
            AdapterSettings(target_modules=("q_proj",)),
        )
    ]
    assert len({llama.layers[1].signature, *kinds}) == 6
    part = adapt(llama, AdapterSettings(layers_to_transform=(2,)))
    assert part.layers[1].signature == part.layers[2].signature != part.layers[3].signature


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target_modules": ("q_porj",)}, "Did you mean q_proj?"),
        ({"target_modules": ("lm_head",)}, "names lm_head, and no matrix of the model's blocks"),
        ({"target_modules": ("embed_tokens",)}, "all-linear means all of them"),
        ({"target_modules": r".*nothing.*"}, "leave no matrix that gets an adapter"),
        ({"layers_to_transform": (7,)}, "the model has 3 blocks"),
        ({"r": 25}, "larger than its matrix of 24 x 24; use --lora-r 24 or less"),
        ({"r": 13}, "larger than its matrix of 12 x 24; use --lora-r 12 or less"),
    ],
)
def test_adapters_that_fit_nothing_are_refused(
    llama: ModelSpec, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        adapt(llama, AdapterSettings(**settings))  # type: ignore[arg-type]
    assert words in str(refusal.value)
