"""Writes tiny GGUF files as llama.cpp's converter does, named by the `gguf` package's own map."""

from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

_ROTARY = ("q_proj", "k_proj")
_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def random_model(config: PretrainedConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def write_model(
    path: Path,
    architecture: str,
    model: torch.nn.Module,
    *,
    quant: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    extra: dict[str, object] | None = None,
    tokens: list[str] | None = None,
) -> None:
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    heads = config.num_attention_heads
    kv_heads = config.to_dict().get("num_key_value_heads", heads)
    _write_sizes(writer, config, heads, kv_heads)
    for key, value in (extra or {}).items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    if tokens is not None:
        writer.add_token_list(tokens)
    names = gguf.get_tensor_name_map(_number(architecture), config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, _, suffix = name.rpartition(".")
        values = _as_converted(architecture, name, tensor.numpy(), heads, kv_heads)
        values = np.ascontiguousarray(values, dtype=np.float32)
        kind = quant if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(
            f"{names.get_name(stem)}.{suffix}", gguf.quants.quantize(values, kind), raw_dtype=kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_sizes(
    writer: gguf.GGUFWriter, config: PretrainedConfig, heads: int, kv_heads: int
) -> None:
    entries = config.to_dict()
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(
        entries.get("intermediate_size") or entries.get("n_inner") or 4 * config.hidden_size
    )
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(config.vocab_size)
    if "head_dim" in entries:
        writer.add_key_length(entries["head_dim"])
        writer.add_rope_dimension_count(entries["head_dim"])


def _number(architecture: str) -> gguf.MODEL_ARCH:
    return next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == architecture)


def _as_converted(
    architecture: str, name: str, values: np.ndarray, heads: int, kv_heads: int
) -> np.ndarray:
    if architecture == "llama" and any(part in name for part in _ROTARY):
        count = heads if "q_proj" in name else kv_heads
        halves = values.reshape(count, 2, values.shape[0] // count // 2, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)
    if architecture in ("gemma2", "gemma3") and name.endswith("norm.weight"):
        return values + np.float32(1)
    if architecture == "gpt2" and name.endswith(_TRANSPOSED):
        return values.T
    return values
