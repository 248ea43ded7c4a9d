"""Write a GGUF file of a Llama's shape with random weights in Q4_0, layer after layer.

    python bench/random_gguf.py llama-3-8b /tmp/llama-3-8b.gguf

It has no tokenizer; runs take SmolLM2's, whose vocabulary is smaller than the shape's.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

from outsize.formats.model_spec import spec_from_config
from shapes import SHAPES

BLOCK = 32
BLOCK_BYTES = 18  # a half-precision scale and 32 codes of 4 bits
DEVIATION = 0.02
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}


def main() -> None:
    shape, path = sys.argv[1], Path(sys.argv[2])
    config = SHAPES[shape]
    writer = gguf.GGUFWriter(path, "llama")
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(config.get("rope_theta", 10_000.0))
    writer.add_vocab_size(config["vocab_size"])
    tensors = [t for layer in spec_from_config(config).layers for t in layer.tensors]
    q4 = gguf.GGMLQuantizationType.Q4_0
    for tensor in tensors:
        if len(tensor.shape) == 1:
            size = 4 * tensor.num_elements
            writer.add_tensor_info(gguf_name(tensor.name), tensor.shape, np.dtype("f4"), size)
        else:
            rows, columns = tensor.shape
            packed = (rows, columns // BLOCK * BLOCK_BYTES)
            size = packed[0] * packed[1]
            writer.add_tensor_info(gguf_name(tensor.name), packed, np.dtype("u1"), size, q4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(0)
    for tensor in tensors:
        writer.write_tensor_data(values(tensor.shape, random))
    writer.close()


def gguf_name(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    _, _, number, local = name.split(".", 3)
    return f"blk.{number}.{NAMES[local]}"


def values(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    blocks = np.empty((shape[0] * shape[1] // BLOCK, BLOCK_BYTES), np.uint8)
    codes_deviation = 16 / 12**0.5
    blocks[:, :2] = np.full(1, DEVIATION / codes_deviation, np.float16).view(np.uint8)
    blocks[:, 2:] = random.integers(0, 256, (len(blocks), BLOCK_BYTES - 2), np.uint8)
    return blocks.reshape(shape[0], -1)


if __name__ == "__main__":
    main()
