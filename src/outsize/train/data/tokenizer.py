"""The tokenizer of the model, and the hash that tells whether it changed."""

import hashlib
from pathlib import Path
from typing import Any

from outsize.errors import DataError

_FILE_PREFIXES = ("tokenizer", "special_tokens", "added_tokens", "chat_template", "vocab", "merges")
_FILE_NAMES = ("config.json",)  # names the tokenizer class where the tokenizer's own files do not
_FILE_SUFFIXES = (".model", ".tiktoken", ".jinja")


def hash_tokenizer(folder: str | None) -> str:
    """Return a hash over the files of a folder that decide how text becomes tokens.

    Raises:
        DataError: no folder is given, or it holds no tokenizer.
    """
    digest = hashlib.sha256()
    names = _tokenizer_files(_existing(folder))
    if not any(name.name not in _FILE_NAMES for name in names):
        raise DataError(
            f"The folder {folder} holds no tokenizer (tokenizer.json or the like); "
            "name one with --tokenizer."
        )
    for path in names:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def load_tokenizer(folder: str) -> Any:
    """Return the Transformers tokenizer of `folder`, which must know character offsets.

    Raises:
        DataError: it cannot be loaded, has no offsets, or has no end-of-text token.
    """
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the Rust tokenizers raise a bare Exception for a damaged file
        raise DataError(f"The tokenizer in {folder} cannot be loaded: {error}.") from error
    if not tokenizer.is_fast:
        raise DataError(
            f"The tokenizer in {folder} ({type(tokenizer).__name__}) has no tokenizer.json, which "
            "is needed to know which characters each token stands for."
        )
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"The tokenizer in {folder} names no end-of-text token (eos_token), which ends every "
            "document."
        )
    return tokenizer


def _existing(folder: str | None) -> Path:
    if folder is None:
        raise DataError("The model has no tokenizer; name a folder with one with --tokenizer.")
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"There is no tokenizer folder {folder}; name one with --tokenizer.")
    return path


def _tokenizer_files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and (
            path.name.startswith(_FILE_PREFIXES)
            or path.name in _FILE_NAMES
            or path.suffix in _FILE_SUFFIXES
        )
    ]
