"""Reading configurations: what is accepted, and how everything else is refused."""

import json

import pytest
import torch
from transformers.models.llama.configuration_llama import LlamaConfig

from outsize.errors import ModelError
from outsize.formats.shapes.lookup import supported_architectures
from outsize.models.registry import build, plain_model

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}


def test_a_folder_its_file_and_its_content_give_the_same_model(tmp_path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY))
    specs = [build(source, torch.float32).spec for source in (tmp_path, path, TINY)]
    assert specs[0] == specs[1] == specs[2] == build(LlamaConfig(**TINY), torch.float32).spec


def test_spec_describes_the_layers() -> None:
    spec = build(TINY, torch.bfloat16).spec
    assert spec.architecture == "LlamaForCausalLM"
    assert [layer.kind for layer in spec.layers] == ["embedding", "block", "block", "head"]
    assert [layer.name for layer in spec.layers[:3]] == [
        "model.embed_tokens",
        "model.layers.0",
        "model.layers.1",
    ]
    assert (spec.hidden_size, spec.vocab_size, spec.max_positions) == (16, 31, 32)


@pytest.mark.parametrize("tied", [False, True])
def test_layers_have_all_parameters_of_the_plain_model_once(tied) -> None:
    config = {**TINY, "tie_word_embeddings": tied}
    spec = build(config, torch.float32).spec
    measured = [(t.name, t.shape) for layer in spec.layers for t in layer.tensors]
    expected = plain_model(config, torch.float32).named_parameters()
    assert measured == [(name, tuple(p.shape)) for name, p in expected]
    assert spec.tied == ("model.embed_tokens.weight" if tied else None)


def test_model_type_is_enough() -> None:
    config = {k: v for k, v in TINY.items() if k != "architectures"}
    assert build(config, torch.float32).spec.architecture == "LlamaForCausalLM"


def test_building_allocates_no_weights() -> None:
    large = {**TINY, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64}
    model = build({**large, "num_hidden_layers": 80, "vocab_size": 128256}, torch.bfloat16)
    parts = [m for modules in model._layers for m in modules.values()]
    assert model.spec.num_elements > 60e9
    assert all(p.device.type == "meta" for part in parts for p in part.parameters())


def test_unsupported_architecture_is_refused_with_the_list() -> None:
    with pytest.raises(ModelError) as refusal:
        build({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}, torch.float32)
    message = str(refusal.value)
    assert "this configuration names the architecture MixtralForCausalLM" in message
    assert "which is not supported. Supported are: ArceeForCausalLM, " in message
    assert all(name in message for name in supported_architectures())


def test_a_configuration_without_architecture_is_refused() -> None:
    with pytest.raises(ModelError, match="names no architecture, which is not supported"):
        build({}, torch.float32)


def test_missing_folder_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"nowhere does not exist; a model is a folder with a co"):
        build(tmp_path / "nowhere", torch.float32)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", r"config\.json is not valid JSON: Expecting"), ("[]", "holds no JSON object")],
)
def test_damaged_file_is_refused(tmp_path, text, message) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        build(tmp_path, torch.float32)


def test_value_of_a_wrong_type_is_refused() -> None:
    with pytest.raises(ModelError, match=r"this configuration is no valid LlamaConfig: .*hidden"):
        build({**TINY, "hidden_size": "wide"}, torch.float32)


def test_a_number_that_must_not_be_zero_is_refused() -> None:
    with pytest.raises(ModelError, match=r"this configuration is no valid LlamaConfig: .*zero"):
        build({**TINY, "num_attention_heads": 0}, torch.float32)


def test_sizes_that_do_not_fit_each_other_are_refused() -> None:
    config = {"model_type": "gpt2", "n_embd": 30, "n_head": 4, "vocab_size": 31}
    with pytest.raises(ModelError, match="Transformers cannot build GPT2LMHeadModel from this con"):
        build(config, torch.float32)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"per_layer_config": {"1": {"intermediate_size": 32}}}, "per_layer_config"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type dynamic",
        ),
    ],
)
def test_unsupported_option_is_refused_by_name(option, name) -> None:
    expected = f"This LlamaForCausalLM has {name} in its configuration, which is not supported."
    with pytest.raises(ModelError, match=expected):
        build({**TINY, **option}, torch.float32)
