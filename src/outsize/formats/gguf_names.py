"""How the tensors of a GGUF file map to the Hugging Face state dict, for each architecture.

The converter of llama.cpp renames every tensor, interleaves the rows of the query and key
projections of Llama, stores the norm weights of Gemma plus one, and transposes the linear layers of
GPT-2. A table per architecture undoes the names; `Layout` says what else has to be undone while
reading. Read `gguf_file.py` next.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Layout(Enum):
    """How the numbers of a tensor lie in the file, compared with the state dict."""

    PLAIN = "plain"
    ROTARY = "rotary"
    """Rows of every head are interleaved: half 0 row 0, half 1 row 0, half 0 row 1, ..."""
    TRANSPOSED = "transposed"
    PLUS_ONE = "plus_one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """The tensors of one architecture.

    Attributes:
        names: state-dict name by GGUF name, both without `.weight` or `.bias`; `{i}` is the number
            of the layer.
        rotary: GGUF names (after `blk.{i}.`) with interleaved rows.
        transposed: GGUF names (after `blk.{i}.`) whose weights are transposed.
        norms_plus_one: whether norm weights are stored plus one.
    """

    names: Mapping[str, str]
    rotary: frozenset[str] = frozenset()
    transposed: frozenset[str] = frozenset()
    norms_plus_one: bool = False


IGNORED = frozenset({"rope_freqs", "rope_factors_long", "rope_factors_short"})
"""Tables that the state dict does not have; the config carries what they mean."""

_OUTER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_ATTENTION = {
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
}
_QK_NORMS = {
    "blk.{i}.attn_q_norm": "model.layers.{i}.self_attn.q_norm",
    "blk.{i}.attn_k_norm": "model.layers.{i}.self_attn.k_norm",
}
_GATED_MLP = {
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
}
_TWO_NORMS = {"blk.{i}.ffn_norm": "model.layers.{i}.post_attention_layernorm"}
_FOUR_NORMS = {
    "blk.{i}.post_attention_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.ffn_norm": "model.layers.{i}.pre_feedforward_layernorm",
    "blk.{i}.post_ffw_norm": "model.layers.{i}.post_feedforward_layernorm",
}
_PHI3 = {
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_qkv": "model.layers.{i}.self_attn.qkv_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.gate_up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
}
_STARCODER2 = {
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.c_fc",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.c_proj",
}
_GPT2 = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "blk.{i}.attn_norm": "transformer.h.{i}.ln_1",
    "blk.{i}.attn_qkv": "transformer.h.{i}.attn.c_attn",
    "blk.{i}.attn_output": "transformer.h.{i}.attn.c_proj",
    "blk.{i}.ffn_norm": "transformer.h.{i}.ln_2",
    "blk.{i}.ffn_up": "transformer.h.{i}.mlp.c_fc",
    "blk.{i}.ffn_down": "transformer.h.{i}.mlp.c_proj",
}
_LLAMA = _OUTER | _ATTENTION | _GATED_MLP | _TWO_NORMS
_GEMMA2 = _OUTER | _ATTENTION | _GATED_MLP | _FOUR_NORMS

ARCHITECTURES: Mapping[str, Naming] = {
    "llama": Naming(names=_LLAMA, rotary=frozenset({"attn_q", "attn_k"})),
    "qwen2": Naming(names=_LLAMA),
    "qwen3": Naming(names=_LLAMA | _QK_NORMS),
    "gemma2": Naming(names=_GEMMA2, norms_plus_one=True),
    "gemma3": Naming(names=_GEMMA2 | _QK_NORMS, norms_plus_one=True),
    "phi3": Naming(names=_OUTER | _PHI3 | _TWO_NORMS),
    "starcoder2": Naming(names=_OUTER | _ATTENTION | _STARCODER2 | _TWO_NORMS),
    "gpt2": Naming(
        names=_GPT2, transposed=frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"})
    ),
}

_SUFFIXED = re.compile(r"(?P<stem>.+)\.(?P<suffix>weight|bias)", re.ASCII)
_BLOCK = re.compile(r"blk\.(?P<layer>0|[1-9]\d{0,4})\.(?P<part>\w+)", re.ASCII)


def state_dict_name(naming: Naming, gguf_name: str) -> tuple[str, Layout] | None:
    """Return a tensor's state-dict name and layout; None if the architecture has no such tensor."""
    suffixed = _SUFFIXED.fullmatch(gguf_name)
    if suffixed is None:
        return None
    stem, suffix = suffixed["stem"], suffixed["suffix"]
    block = _BLOCK.fullmatch(stem)
    part = block["part"] if block else stem
    name = naming.names.get(f"blk.{{i}}.{part}" if block else stem)
    if name is None:
        return None
    full_name = name.replace("{i}", block["layer"] if block else "") + "." + suffix
    return full_name, _layout(naming, part, suffix)


def _layout(naming: Naming, part: str, suffix: str) -> Layout:
    if part in naming.rotary:
        return Layout.ROTARY
    if part in naming.transposed and suffix == "weight":
        return Layout.TRANSPOSED
    if naming.norms_plus_one and part.endswith("norm") and suffix == "weight":
        return Layout.PLUS_ONE
    return Layout.PLAIN
