"""Gathers everything of a model but its weights into one folder: config, tokenizer, chat template.

It imports Transformers and torch and may hold hundreds of megabytes, so it is meant to run in a
child process that ends before training begins. Local models are read from this machine alone. Read
`export.py` for the way out.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from outsize.errors import ModelError
from outsize.formats.config_file import read_config_file
from outsize.formats.gguf_config import config_from_gguf
from outsize.formats.gguf_file import naming_of
from outsize.formats.gguf_header import read_header
from outsize.formats.gguf_tokenizer import has_tokenizer, tokenizer_from_gguf
from outsize.formats.gguf_types import GgufHeader
from outsize.formats.hub import BUILT_IN, ModelFiles, is_hub_id, resolve
from outsize.formats.hub_download import TOKENIZER_PATTERNS, download, drop_cache
from outsize.formats.ranged import RangedFile
from outsize.paths import is_file, is_there, user_path

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


def prepare_model(model: str, folder: Path, tokenizer: str | None = None) -> dict[str, object]:
    """Resolve a model and write its configs, tokenizer and chat template into a folder.

    Args:
        model: what `hub.resolve` accepts.
        folder: exists and is ours to write to.
        tokenizer: a folder, `.gguf` file, built-in name or Hub id to take the tokenizer from; None
            takes the model's own.

    Returns:
        JSON-able `name`, `folder`, `gguf_file` and `kind` as in `ModelFiles`, `architecture` (the
        causal model's class name), `has_tokenizer`, `has_chat_template`.

    Raises:
        ModelError: the model or its tokenizer is unknown or unusable.
        FormatError: a config or a GGUF header is damaged.

    Cost: about 400 MiB of host memory in this process (the libraries are most of it). Reads no
    weights.
    """
    files = resolve(model)
    config = _load_config(files)
    config.save_pretrained(folder)
    _write_generation_config(files, config, folder)
    loaded = _load_tokenizer(files, tokenizer, config)
    if loaded is not None:
        _save_tokenizer(loaded, folder)
    drop_cache(folder)
    return {
        "name": files.name,
        "folder": str(files.folder),
        "gguf_file": files.gguf_file,
        "kind": files.kind,
        "architecture": config.architectures[0] if config.architectures else None,
        "has_tokenizer": loaded is not None,
        "has_chat_template": loaded is not None and loaded.chat_template is not None,
    }


def _load_config(files: ModelFiles) -> "PretrainedConfig":
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if files.gguf_file is not None:
        path = files.folder / files.gguf_file
        config = config_from_gguf(path, _gguf_header(path))
    else:
        read_config_file(files.folder / "config.json")
        try:
            config = AutoConfig.from_pretrained(files.folder, local_files_only=True)
        except Exception as error:  # Transformers raises whatever a config's own checks raise
            raise ModelError(f"{files.folder / 'config.json'} cannot be used: {error}") from error
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if causal is not None:
        config.architectures = [causal]
    return config


def _gguf_header(path: Path) -> GgufHeader:
    file = RangedFile(path)
    try:
        header = read_header(file)
    finally:
        file.close()
    naming_of(path, header)
    return header


def _write_generation_config(files: ModelFiles, config: "PretrainedConfig", folder: Path) -> None:
    from transformers import GenerationConfig

    if files.gguf_file is None and (files.folder / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(files.folder, local_files_only=True)
    else:
        generation = GenerationConfig.from_model_config(config)
    generation.save_pretrained(folder)


def _load_tokenizer(
    files: ModelFiles, tokenizer: str | None, config: "PretrainedConfig"
) -> "PreTrainedTokenizerBase | None":
    positions = config.to_dict().get("max_position_embeddings")
    max_positions = positions if isinstance(positions, int) else None
    gguf_file, folder = files.gguf_file, files.folder
    if tokenizer is not None:
        folder, gguf_file = _tokenizer_place(tokenizer)
    if gguf_file is not None:
        header = _gguf_header(folder / gguf_file)
        if has_tokenizer(header):
            return tokenizer_from_gguf(folder / gguf_file, header, max_positions)
    elif any((folder / name).is_file() for name in _VOCABULARIES):
        return _tokenizer_from_folder(folder)
    if tokenizer is not None:
        raise ModelError(
            f"{tokenizer} has no tokenizer: none of {', '.join(_VOCABULARIES)} is there."
        )
    return None


def _tokenizer_place(tokenizer: str) -> tuple[Path, str | None]:
    path = user_path(tokenizer)
    if is_file(path) and path.suffix != ".gguf":
        return path.parent, None
    if any(is_file(path / name) for name in _VOCABULARIES):
        return path, None
    if tokenizer not in BUILT_IN and not is_there(path) and is_hub_id(tokenizer):
        return download(tokenizer, TOKENIZER_PATTERNS), None
    files = resolve(tokenizer)
    return files.folder, files.gguf_file


def _tokenizer_from_folder(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # Transformers and tokenizers raise their own and bare exceptions
        raise ModelError(
            f"The tokenizer in {folder} cannot be read ({error}). Give another with --tokenizer."
        ) from error


def prepare_for_training(model: str, folder: str, tokenizer: str | None) -> dict[str, object]:
    """Run `prepare_model` with arguments that are JSON, for a child process."""
    return prepare_model(model, Path(folder), tokenizer)


def prepare_tokenizer(tokenizer: str, folder: str) -> dict[str, object]:
    """Write a tokenizer alone into a folder; for models that come without files.

    Raises:
        ModelError: there is none at `tokenizer`, or it cannot be read.
    """
    place, gguf_file = _tokenizer_place(tokenizer)
    if gguf_file is not None:
        header = _gguf_header(place / gguf_file)
        loaded = tokenizer_from_gguf(place / gguf_file, header, None)
    else:
        loaded = _tokenizer_from_folder(place)
    _save_tokenizer(loaded, Path(folder))
    return {"has_chat_template": loaded.chat_template is not None}


def _save_tokenizer(loaded: "PreTrainedTokenizerBase", folder: Path) -> None:
    for key in ("local_files_only", "is_local"):  # how it was loaded, not what it is
        loaded.init_kwargs.pop(key, None)
    loaded.save_pretrained(folder)
