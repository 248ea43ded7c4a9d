"""Small configs of every supported architecture, and of every way its layers can be mixed."""

from collections.abc import Mapping

from outsize.formats.shapes.decoder import read_shape
from outsize.formats.shapes.families import FAMILIES
from outsize.spec.block import BlockShape

TINY = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "sliding_window": 5,
    "pad_token_id": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT_2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": 61}
HEAD_DIM = ("Ministral", "Helium", "Gemma", "Qwen3", "SeedOss", "Glm")
"""Families whose default width of a head does not follow from the other sizes."""


def _config(name: str, **entries: object) -> dict[str, object]:
    base = GPT_2 if name.startswith("GPT2") else TINY
    head = {"head_dim": 8} if name.startswith(HEAD_DIM) else {}
    return {"architectures": [name], **base, **head, **entries}


_SWITCHED: dict[str, tuple[str, dict[str, object]]] = {
    "Llama tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "Llama biased": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "Llama with wide heads": ("LlamaForCausalLM", {"head_dim": 16}),
    "Llama with null heads": ("LlamaForCausalLM", {"num_key_value_heads": None, "head_dim": None}),
    "Mistral full": ("MistralForCausalLM", {"sliding_window": None}),
    "Qwen2 with head_dim": ("Qwen2ForCausalLM", {"head_dim": 4}),
    "Qwen3 biased": ("Qwen3ForCausalLM", {"attention_bias": True, "head_dim": 16}),
    "Gemma untied": ("GemmaForCausalLM", {"tie_word_embeddings": False, "attention_bias": True}),
    "Phi with norms": ("PhiForCausalLM", {"qk_layernorm": True, "head_dim": 16}),
    "Phi tied": ("PhiForCausalLM", {"tie_word_embeddings": True}),
    "GPT-2 untied": ("GPT2LMHeadModel", {"tie_word_embeddings": False}),
    "GPT-2 inner": ("GPT2LMHeadModel", {"n_inner": 40}),
    "GPT-2 respelt": ("GPT2LMHeadModel", {"hidden_size": 16, "num_hidden_layers": 2}),
    "GPT-NeoX unbiased": ("GPTNeoXForCausalLM", {"attention_bias": False}),
    "GPT-NeoX serial": ("GPTNeoXForCausalLM", {"use_parallel_residual": False}),
    "Granite biased": ("GraniteForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "Olmo biased": ("OlmoForCausalLM", {"attention_bias": True}),
    "StableLM with norms": ("StableLmForCausalLM", {"qk_layernorm": True, "use_qkv_bias": True}),
    "StableLM parallel": ("StableLmForCausalLM", {"use_parallel_residual": True}),
    "Starcoder2 unbiased": ("Starcoder2ForCausalLM", {"use_bias": False, "head_dim": None}),
    "Cohere with norms": ("CohereForCausalLM", {"use_qk_norm": True, "attention_bias": True}),
    "Glm unbiased": ("GlmForCausalLM", {"attention_bias": False}),
    "Nemotron biased": ("NemotronForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "Arcee biased": ("ArceeForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "Helium biased": ("HeliumForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "Seed-OSS biased": (
        "SeedOssForCausalLM",
        {"attention_bias": False, "attention_out_bias": True, "mlp_bias": True, "head_dim": None},
    ),
    "Exaone4 full": (
        "Exaone4ForCausalLM",
        {"sliding_window": None, "layer_types": ["full_attention"] * 3},
    ),
}

_SLIDING_THEN_FULL = ["sliding_attention", "attention", "sliding_attention"]

_MIXED: dict[str, tuple[str, dict[str, object]]] = {
    "Ministral": ("MinistralForCausalLM", {"layer_types": _SLIDING_THEN_FULL}),
    "Qwen2": ("Qwen2ForCausalLM", {"use_sliding_window": True, "max_window_layers": 1}),
    "Qwen3": (
        "Qwen3ForCausalLM",
        {"use_sliding_window": True, "max_window_layers": 0} | {"layer_types": _SLIDING_THEN_FULL},
    ),
    "Gemma2": ("Gemma2ForCausalLM", {}),
    "Gemma3": ("Gemma3ForCausalLM", {"sliding_window_pattern": 2}),
    "Olmo3": ("Olmo3ForCausalLM", {"num_hidden_layers": 5}),
    "SmolLM3": ("SmolLM3ForCausalLM", {"no_rope_layer_interval": 2}),
    "SmolLM3 listed": ("SmolLM3ForCausalLM", {"no_rope_layers": [0, 1, 0]}),
    "SmolLM3 sliding": (
        "SmolLM3ForCausalLM",
        {"no_rope_layer_interval": 2, "use_sliding_window": True},
    ),
    "Cohere2": ("Cohere2ForCausalLM", {"sliding_window_pattern": 2}),
    "Exaone4": ("Exaone4ForCausalLM", {"num_hidden_layers": 4}),
}

VARIANTS = {family.name: _config(family.name) for family in FAMILIES} | {
    label: _config(name, **entries) for label, (name, entries) in _SWITCHED.items()
}
"""Configs whose blocks are all alike, unless the architecture's own defaults mix them."""

MIXED = {f"{label} mixed": _config(name, **entries) for label, (name, entries) in _MIXED.items()}
"""Configs with two kinds of blocks."""


def blocks_of(config: Mapping[str, object]) -> tuple[BlockShape, ...]:
    """What each block of a config computes, first block first."""
    return read_shape(config, "this configuration").blocks
