"""Downloads a model from the Hugging Face Hub into its cache, and says what went wrong if not.

`HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN` and `HF_HOME` mean what they mean everywhere. Only the
files that training needs are asked for. Read `hub.py` for what comes before.
"""

import errno
import os
from pathlib import Path

from outsize.errors import ModelError, StorageError

TOKENIZER_PATTERNS = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
)
CONFIG_PATTERNS = ("config.json", "model.safetensors.index.json")
MODEL_PATTERNS = (
    *CONFIG_PATTERNS,
    "generation_config.json",
    "model.safetensors",
    "model-*.safetensors",
    *TOKENIZER_PATTERNS,
)


def download(hub_id: str, patterns: tuple[str, ...] = MODEL_PATTERNS) -> Path:
    """Return the local folder of a Hub model, downloading what is not in the cache.

    Raises:
        ModelError: the model is unknown or gated, or the Hub cannot be reached; says what to do.
        StorageError: the disk is full.

    Cost: the files on disk; their pages are dropped from the page cache afterwards.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=list(patterns)))
    except errors.GatedRepoError as error:
        raise ModelError(
            f"The model {hub_id} is gated: accept its terms on its Hub page, then set HF_TOKEN."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"There is no local folder {hub_id}, and the Hub has no such model, or it is private: "
            "check the spelling, or set HF_TOKEN."
        ) from error
    except (
        Exception
    ) as error:  # the client raises from three libraries, not the same ones in every release
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"The disk is full: {hub_id} cannot be downloaded.") from error
        raise ModelError(_unreachable(hub_id, error)) from error
    drop_cache(folder)
    return folder


def drop_cache(folder: Path) -> None:
    """Drop the files of a folder from the page cache, which counts against a container's limit."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(fd)  # pages that are not yet on disk cannot be dropped
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def _unreachable(hub_id: str, error: Exception) -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return (
            f"There is no local folder {hub_id}, the model is not complete in the local cache, and "
            "HF_HUB_OFFLINE is set: "
            "unset it, or give the path of a local folder."
        )
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return (
        f"There is no local folder {hub_id}, and the model cannot be downloaded from "
        f"{constants.ENDPOINT} ({type(error).__name__}: {reason}). "
        "Check the network, set HF_ENDPOINT to a mirror, or give the path of a local folder."
    )
