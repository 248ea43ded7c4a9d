"""The Transformers config of a GGUF file, from its metadata.

Transformers has the table from GGUF keys to config entries. It is given a small file with the
checked metadata alone: its own reader trusts every count in a header and takes hundreds of
megabytes for the token lists. What that table leaves out or guesses is set from the tensors. Runs
in a child process; read `prepare.py` next.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from outsize.errors import ModelError
from outsize.formats.gguf_types import GgufHeader, Value

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PretrainedConfig

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

_LAYERS_27B = {"gemma2": 46, "gemma3": 62}


def config_from_gguf(path: Path, header: GgufHeader) -> "PretrainedConfig":
    """Return the config of the model in a GGUF file.

    Args:
        path: the file, for messages.
        header: its checked header, of an architecture in `gguf_names.ARCHITECTURES`.

    Raises:
        ModelError: the metadata is incomplete, or describes what the config cannot express.
    """
    from transformers import AutoConfig

    _refuse_rope_scaling(path, header)
    with tempfile.TemporaryDirectory() as folder:
        _write_metadata(Path(folder) / "metadata.gguf", header)
        try:
            config = AutoConfig.from_pretrained(
                folder, gguf_file="metadata.gguf", local_files_only=True
            )
        except Exception as error:  # Transformers raises whatever its table runs into
            raise ModelError(f"The metadata of {path} makes no config: {error}") from error
    config.update(_corrections(path, header))
    return config


def _write_metadata(path: Path, header: GgufHeader) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, str(header.metadata["general.architecture"]))
    for key, value in header.metadata.items():
        if key not in ("general.architecture", "general.alignment", "general.name"):
            _add(writer, key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def _add(writer: "GGUFWriter", key: str, value: Value) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_int64(key, value) if value < 2**63 else writer.add_uint64(key, value)
        case float():
            writer.add_float64(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, list(value))


def _corrections(path: Path, header: GgufHeader) -> dict[str, object]:
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    if "token_embd.weight" not in shapes:
        raise ModelError(f"{path} has no tensor token_embd.weight, so it is no whole model.")
    architecture = str(header.metadata["general.architecture"])
    values: dict[str, object] = {
        "tie_word_embeddings": "output.weight" not in shapes,
        "vocab_size": shapes["token_embd.weight"][0],
        "dtype": "float32",
    }
    # an id that the file does not state is none; the config class would put in another model's
    values |= {name: header.metadata.get(key) for name, key in _SPECIAL_IDS.items()}
    values |= {option: tensor in shapes for option, tensor in _BIASES.get(architecture, {}).items()}
    return values | _of_architecture(architecture, header)


def _of_architecture(architecture: str, header: GgufHeader) -> dict[str, object]:
    known = {key.removeprefix(architecture + "."): value for key, value in header.metadata.items()}
    match architecture:
        case "gpt2":
            names = {"n_positions": "context_length", "n_inner": "feed_forward_length"}
        case "qwen3":
            names = {"head_dim": "attention.key_length"}
        case "gemma2" | "gemma3":
            return {"query_pre_attn_scalar": _query_scalar(architecture, known)}
        case _:
            names = {}
    return {name: known[key] for name, key in names.items() if key in known}


def _query_scalar(architecture: str, known: dict[str, Value]) -> Value:
    if (
        known.get("block_count") == _LAYERS_27B[architecture]
    ):  # only the 27B models scale by the width of a head
        width, heads = known["embedding_length"], known["attention.head_count"]
        assert isinstance(width, int)
        assert isinstance(heads, int)
        return width // heads
    return known.get("attention.key_length", 256)


def _refuse_rope_scaling(path: Path, header: GgufHeader) -> None:
    architecture = header.metadata["general.architecture"]
    scaling = header.metadata.get(f"{architecture}.rope.scaling.type", "none")
    tables = [tensor.name for tensor in header.tensors if tensor.name in _ROPE_TABLES]
    if scaling != "none" or tables:
        what = tables[0] if tables else f"rope scaling of type {scaling}"
        raise ModelError(
            f"{path} has {what}, which its metadata does not describe well enough to train on. "
            "Use the same model as safetensors."
        )
