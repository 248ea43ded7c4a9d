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
    "llama-15m": _llama(288, 768, 6, 6, 6, vocab_size=49152),
    "smollm2-135m": _llama(576, 1536, 30, 9, 3),
    "smollm2-360m": _llama(960, 2560, 32, 15, 5),
    "llama-1.1b": _llama(2048, 5632, 22, 32, 4, tie_word_embeddings=False),
    "smollm2-1.7b": _llama(2048, 8192, 24, 32, 32),
    "llama-3b": _llama(2048, 11008, 36, 16, 4, vocab_size=128256),  # the sizes of SmolLM3-3B
    "llama-3-8b": _llama(
        4096, 14336, 32, 32, 8, vocab_size=128256, tie_word_embeddings=False, rope_theta=500000.0
    ),
    "qwen3-0.6b": {
        **_llama(1024, 3072, 28, 16, 8, head_dim=128, vocab_size=151936),
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
    },
    "gemma-3-270m": {
        **_llama(640, 2048, 18, 4, 1, head_dim=256, vocab_size=262144, sliding_window=512),
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
    },
    "gpt2": {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
}
"""Name -> `config.json`. Every run uses SmolLM2's tokenizer, so no vocabulary is smaller."""
