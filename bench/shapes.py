"""Shapes of real models, as configs without weights: what the benchmarks train from scratch."""

from typing import Any


def _llama(
    hidden: int, inner: int, layers: int, heads: int, kv_heads: int, **more: Any
) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": _llama(576, 1536, 30, 9, 3),
    "smollm2-360m": _llama(960, 2560, 32, 15, 5),
    "llama-1.1b": _llama(2048, 5632, 22, 32, 4, tie_word_embeddings=False),
    "smollm2-1.7b": _llama(2048, 8192, 24, 32, 32),
}
"""Name -> `config.json`. The vocabulary is SmolLM2's, whose tokenizer every run uses."""
