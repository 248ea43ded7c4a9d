"""The entries of a config that a GGUF file's header states, without any library.

`entries_from_gguf` gives what sizes and shapes need; `gguf_config.py` has Transformers make the
whole config and takes from here what Transformers does not know.
"""

from pathlib import Path

from outsize.errors import ModelError
from outsize.formats.gguf_types import GgufHeader, Value

_SPECIAL_IDS = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}
_ROPE_TABLES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_BIASES = {
    "llama": {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"},
    "qwen3": {"attention_bias": "blk.0.attn_q.bias"},
    "starcoder2": {"use_bias": "blk.0.attn_q.bias"},
}
"""Config entry -> the tensor whose presence decides it; the metadata does not say."""

_SIZES = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}
"""Key without its architecture -> config entry, in every architecture."""

_OWN_SIZES = {
    "llama": {"rope.dimension_count": "head_dim"},
    "gemma2": {"attention.key_length": "head_dim", "attention.sliding_window": "sliding_window"},
    "gemma3": {"attention.key_length": "head_dim", "attention.sliding_window": "sliding_window"},
}

_LEFT_OUT = {
    "gpt2": {"n_positions": "context_length", "n_inner": "feed_forward_length"},
    "qwen3": {"head_dim": "attention.key_length"},
}
"""Config entry -> key, where Transformers' table has no such line."""

_MODEL_TYPES = {"gemma3": "gemma3_text"}
"""Architecture -> `model_type`, where Transformers has another name."""

_LAYERS_27B = {"gemma2": 46, "gemma3": 62}


def entries_from_gguf(path: Path, header: GgufHeader) -> dict[str, object]:
    """Return the part of a config that says how large the model is.

    Args:
        path: the file, for messages.
        header: its checked header, of an architecture in `gguf_names.ARCHITECTURES`.

    Raises:
        ModelError: the file has no embedding, or a rotary embedding that its metadata describes
            only in part.
    """
    refuse_rope_scaling(path, header)
    architecture = str(header.metadata["general.architecture"])
    names = _SIZES | _OWN_SIZES.get(architecture, {})
    stated = {name: header.metadata.get(f"{architecture}.{key}") for key, name in names.items()}
    known = {name: value for name, value in stated.items() if value is not None}
    model_type = _MODEL_TYPES.get(architecture, architecture)
    return {"model_type": model_type, **known, **_corrected_sizes(path, header)}


def corrected_entries(path: Path, header: GgufHeader) -> dict[str, object]:
    """Return the entries that Transformers' own table leaves out or guesses.

    Args:
        path: the file, for messages.
        header: its checked header.

    Raises:
        ModelError: the file has no embedding, or one that is no matrix.
    """
    architecture = str(header.metadata["general.architecture"])
    # an id that the file does not state is none; the config class would put in another model's
    ids = {name: header.metadata.get(key) for name, key in _SPECIAL_IDS.items()}
    scalar: dict[str, object] = {}
    if architecture in _LAYERS_27B:
        scalar["query_pre_attn_scalar"] = _query_scalar(architecture, header)
    return {"dtype": "float32", **ids, **scalar, **_corrected_sizes(path, header)}


def _corrected_sizes(path: Path, header: GgufHeader) -> dict[str, object]:
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    if "token_embd.weight" not in shapes:
        raise ModelError(f"{path} has no tensor token_embd.weight, so it is no whole model.")
    if len(shapes["token_embd.weight"]) != 2:
        raise ModelError(f"The tensor token_embd.weight of {path} is no matrix.")
    architecture = str(header.metadata["general.architecture"])
    biases = {option: name in shapes for option, name in _BIASES.get(architecture, {}).items()}
    keys = {name: f"{architecture}.{key}" for name, key in _LEFT_OUT.get(architecture, {}).items()}
    sizes = {name: header.metadata[key] for name, key in keys.items() if key in header.metadata}
    tied = {"tie_word_embeddings": "output.weight" not in shapes}
    return {"vocab_size": shapes["token_embd.weight"][0], **tied, **biases, **sizes}


def _query_scalar(architecture: str, header: GgufHeader) -> Value:
    known = {key.removeprefix(architecture + "."): value for key, value in header.metadata.items()}
    if (
        known.get("block_count") == _LAYERS_27B[architecture]
    ):  # only the 27B models scale by the width of a head
        width, heads = known["embedding_length"], known["attention.head_count"]
        assert isinstance(width, int)
        assert isinstance(heads, int)
        return width // heads
    return known.get("attention.key_length", 256)


def refuse_rope_scaling(path: Path, header: GgufHeader) -> None:
    """Refuse a rotary embedding that the metadata describes only in part.

    Raises:
        ModelError: there is one.
    """
    architecture = header.metadata["general.architecture"]
    scaling = header.metadata.get(f"{architecture}.rope.scaling.type", "none")
    tables = [tensor.name for tensor in header.tensors if tensor.name in _ROPE_TABLES]
    if scaling != "none" or tables:
        what = tables[0] if tables else f"rope scaling of type {scaling}"
        raise ModelError(
            f"{path} has {what}, which its metadata does not describe well enough to train on. "
            "Use the same model as safetensors."
        )
