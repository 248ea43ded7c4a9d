"""The formula's spec equals that of the real modules, and says what is wrong with a config."""

import contextlib
from dataclasses import replace

import pytest
import torch
from decoder_configs import MIXED, VARIANTS, blocks_of
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.errors import ModelError
from outsize.formats.model_spec import spec_from_config
from outsize.formats.shapes.families import FAMILIES
from outsize.models.architectures import ARCHITECTURES
from outsize.models.describe import describe_layer, with_signatures
from outsize.models.registry import build
from outsize.spec.model import LayerSpec, ModelSpec

TINY_LLAMA = VARIANTS["LlamaForCausalLM"]
NEEDED = {
    "MinistralForCausalLM": {"head_dim": 128},
    "NemotronForCausalLM": {"num_key_value_heads": 8},
}
"""What these two config classes leave out and their models need."""


def described_layers(config) -> tuple[LayerSpec, ...]:
    """The layers as the modules describe themselves, with the signatures of the modules."""
    decoder = build(config, torch.float32)
    return tuple(
        describe_layer(layer.name, layer.kind, modules, frozenset({decoder.spec.tied or ""}))
        for layer, modules in zip(decoder.spec.layers, decoder._layers, strict=True)
    )


@pytest.mark.parametrize("variant", [*VARIANTS, *MIXED])
def test_the_formula_equals_the_modules(variant) -> None:
    config = {**VARIANTS, **MIXED}[variant]
    expected = build(config, torch.float32).spec
    assert spec_from_config(config) == expected


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_what_a_config_leaves_out_is_what_its_class_puts_in(name) -> None:
    config = {"architectures": [name], **NEEDED.get(name, {})}
    assert spec_from_config(config) == build(config, torch.float32).spec


@pytest.mark.parametrize("variant", [*VARIANTS, *MIXED])
def test_layers_of_different_work_never_share_a_signature(variant) -> None:
    config = {**VARIANTS, **MIXED}[variant]
    by_modules = [layer.signature for layer in described_layers(config)]
    by_formula = [layer.signature for layer in spec_from_config(config).layers]
    pairs = set(zip(by_formula, by_modules, strict=True))
    assert len({signature for signature, _ in pairs}) == len(pairs)


def test_signatures_of_all_variants_tell_them_apart() -> None:
    configs = [*VARIANTS.values(), *MIXED.values()]
    pairs = {
        (said.signature, found.signature)
        for config in configs
        for said, found in zip(
            spec_from_config(config).layers[1:-1], described_layers(config)[1:-1], strict=True
        )
    }
    assert len({said for said, _ in pairs}) == len(pairs)


@pytest.mark.parametrize("variant", MIXED)
def test_mixed_layers_have_several_signatures(variant) -> None:
    blocks = spec_from_config(MIXED[variant]).layers[1:-1]
    assert len({block.signature for block in blocks}) == 2


def test_modules_that_differ_from_the_formula_keep_their_own_signatures() -> None:
    described = build(TINY_LLAMA, torch.float32).spec
    other = spec_from_config({**TINY_LLAMA, "intermediate_size": 40})
    unsigned = _signed(described, lambda index: f"module {index}")
    assert with_signatures(unsigned, other) == unsigned
    assert with_signatures(unsigned, _signed(described, lambda _: "one for all")) == unsigned


def _signed(spec: ModelSpec, signature) -> ModelSpec:
    layers = (replace(layer, signature=signature(i)) for i, layer in enumerate(spec.layers))
    return replace(spec, layers=tuple(layers))


def test_the_table_has_the_architectures_that_are_run() -> None:
    assert len(FAMILIES) == len(ARCHITECTURES) == 28
    assert len({family.model_type for family in FAMILIES}) == 28


@settings(max_examples=20, deadline=None)
@given(
    heads=st.sampled_from([1, 2, 4, 6]),
    group=st.sampled_from([1, 2]),
    head_size=st.sampled_from([None, 2, 8]),
    width=st.sampled_from([2, 4, 12]),
    inner=st.integers(1, 70),
    layers=st.integers(1, 3),
    vocab=st.integers(4, 90),
    switches=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    family=st.sampled_from(["LlamaForCausalLM", "GraniteForCausalLM", "SmolLM3ForCausalLM"]),
)
def test_any_llama_like_config(
    heads, group, head_size, width, inner, layers, vocab, switches, family
) -> None:
    config = {
        "architectures": [family],
        "vocab_size": vocab,
        "hidden_size": heads * width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // group if heads % group == 0 else heads,
        "pad_token_id": 1,
        "attention_bias": switches[0],
        "mlp_bias": switches[1],
        "tie_word_embeddings": switches[2],
        **({} if head_size is None else {"head_dim": head_size}),
    }
    expected = build(config, torch.float32).spec
    assert spec_from_config(config) == expected


@pytest.mark.parametrize(
    ("entry", "value", "rule"),
    [
        ("num_hidden_layers", 10**9, "is 1000000000; it must be a whole number from 1 to 4096"),
        ("num_hidden_layers", 0, "is 0; it must be a whole number from 1 to 4096"),
        ("hidden_size", -16, "is -16; it must be a whole number from 1 to 16777216"),
        ("hidden_size", "wide", "is 'wide'; it must be a whole number"),
        ("hidden_size", 16.0, "is 16.0; it must be a whole number"),
        ("hidden_size", True, "is True; it must be a whole number"),
        ("hidden_size", None, "is None; it must be a whole number"),
        ("hidden_size", 34, "is 34; it must be a multiple of num_attention_heads, 4"),
        ("hidden_size", 10**1000, "is a number of 3322 bits; it must be"),
        ("hidden_size", [[[[[[[8]]]]]]], "it must be a whole number"),
        ("num_key_value_heads", 3, "is 3; it must be a divisor of num_attention_heads, 4"),
        ("vocab_size", 2**40, "is 1099511627776; it must be a whole number"),
        ("max_position_embeddings", -1, "is -1; it must be a whole number"),
        ("attention_bias", "yes", "is 'yes'; it must be true or false"),
        ("tie_word_embeddings", None, "is None; it must be true or false"),
        ("hidden_act", 5, "is 5; it must be text"),
        ("architectures", {"a": 1}, "is {'a': 1}; it must be a list of names"),
        ("architectures", [1], r"is [1]; it must be a list of names"),
    ],
)
def test_nonsense_is_refused_by_name(entry, value, rule) -> None:
    with pytest.raises(ModelError) as refusal:
        spec_from_config({**TINY_LLAMA, entry: value})
    assert f"In this configuration, {entry} " in str(refusal.value)
    assert rule in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("Gemma3ForCausalLM", {"layer_types": ["full_attention"]}, "layer_types is ['full_atte"),
        ("Gemma3ForCausalLM", {"layer_types": 5}, "must be a list of 3, one for each layer"),
        ("Gemma3ForCausalLM", {"layer_types": [[], 1, 2]}, "made of full_attention and sliding"),
        ("Gemma3ForCausalLM", {"sliding_window": 0}, "sliding_window is 0; it must be a whole"),
        ("Gemma3ForCausalLM", {"sliding_window": None}, "must be stated, since some layers have"),
        ("Gemma3ForCausalLM", {"sliding_window_pattern": 0}, "sliding_window_pattern is 0"),
        ("Exaone4ForCausalLM", {"sliding_window_pattern": "LLLG"}, "pattern is 'LLLG'; it must"),
        ("SmolLM3ForCausalLM", {"no_rope_layers": [1, "x", 0]}, "a list of 0 and 1"),
        ("SmolLM3ForCausalLM", {"no_rope_layer_interval": 0}, "no_rope_layer_interval is 0"),
        ("Qwen2ForCausalLM", {"use_sliding_window": 1}, "use_sliding_window is 1"),
        ("NemotronForCausalLM", {"num_key_value_heads": None}, "num_key_value_heads is None"),
        ("MinistralForCausalLM", {"head_dim": None}, "head_dim is None; it must be a whole"),
        ("StableLmForCausalLM", {"num_attention_heads": 3}, "multiple of num_attention_heads, 3"),
    ],
)
def test_nonsense_about_attention_is_refused_by_name(name, entries, message) -> None:
    with pytest.raises(ModelError) as refusal:
        spec_from_config({**VARIANTS[name], **entries})
    assert message in str(refusal.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_a_config_holds_it_is_a_spec_or_a_refusal(data) -> None:
    config = dict(data.draw(st.sampled_from([*VARIANTS.values(), *MIXED.values()])))
    entries = [*config, "layer_types", "no_rope_layers", "rope_scaling", "dtype", "head_dim"]
    for entry in data.draw(st.lists(st.sampled_from(entries), min_size=1, max_size=3)):
        config[entry] = data.draw(JSON)
    with contextlib.suppress(ModelError):
        assert spec_from_config(config).num_elements > 0


def test_an_entry_that_is_needed_and_missing_is_named() -> None:
    config = {"model_type": "nemotron"}
    with pytest.raises(
        ModelError, match=r"^This configuration does not state num_key_value_heads,"
    ):
        spec_from_config(config)


def test_a_default_that_does_not_fit_is_said_to_be_one() -> None:
    config = {"model_type": "stablelm", "num_attention_heads": 2}
    with pytest.raises(ModelError, match="num_key_value_heads is not stated, so 32; it must be a "):
        spec_from_config(config)


def test_more_tensors_than_any_model_has_are_refused() -> None:
    config = {
        **VARIANTS["StableLmForCausalLM"],
        "qk_layernorm": True,
        "num_hidden_layers": 4096,
        "num_attention_heads": 4096,
        "num_key_value_heads": 4096,
        "hidden_size": 4096,
    }
    with pytest.raises(ModelError, match=r"num_hidden_layers is 4096, which makes \d+ tensors"):
        spec_from_config(config)


def test_an_unsupported_architecture_is_refused_as_by_the_registry() -> None:
    config = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}
    refusals = []
    for read in (spec_from_config, lambda c: build(c, torch.float32)):
        with pytest.raises(ModelError) as refusal:
            read(config)
        refusals.append(str(refusal.value))
    assert refusals[0] == refusals[1]
    assert "names the architecture MixtralForCausalLM, which is not supported. Sup" in refusals[0]


@pytest.mark.parametrize("entry", ["rope_parameters", "rope_scaling"])
def test_a_dynamic_rotary_embedding_is_refused(entry) -> None:
    config = {**TINY_LLAMA, entry: {"type": "dynamic", "factor": 2.0}}
    with pytest.raises(ModelError, match="has rope_type dynamic in its configuration"):
        spec_from_config(config)


def test_blocks_say_what_they_compute() -> None:
    config = {
        **VARIANTS["Gemma3ForCausalLM"],
        "sliding_window_pattern": 3,
        "torch_dtype": "float16",
    }
    first, _, last = blocks_of(config)
    assert (first.attention, first.window_tokens, last.attention) == ("sliding", 5, "full")
    assert last.window_tokens is None
    assert (first.num_heads, first.num_key_value_heads, first.head_size) == (4, 2, 8)
    assert (first.is_gated, first.activation, first.feed_forward_size, first.dtype) == (
        True,
        "gelu_pytorch_tanh",
        48,
        "float16",
    )
    assert [b.has_rotary for b in blocks_of(VARIANTS["GPT2LMHeadModel"])] == [False] * 3
    assert [b.is_gated for b in blocks_of(VARIANTS["GPT2LMHeadModel"])] == [False] * 3


def test_layers_without_rotary_embedding_are_known() -> None:
    config = {**VARIANTS["SmolLM3ForCausalLM"], "no_rope_layers": [1, 0, 1]}
    assert [block.has_rotary for block in blocks_of(config)] == [True, False, True]
    cohere = {**VARIANTS["Cohere2ForCausalLM"], "sliding_window_pattern": 2}
    assert [block.has_rotary for block in blocks_of(cohere)] == [True, False, True]
