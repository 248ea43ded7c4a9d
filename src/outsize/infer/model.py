"""A model that is ready to be read: its weights, and a folder with its config and tokenizer.

Config and tokenizer are gathered in a child process, as for training, so that this one stays small
until it knows what it needs. No PyTorch in here. Read `generate.py` next.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from outsize.errors import ModelError
from outsize.formats.hub import ModelFiles, open_weights
from outsize.formats.source import WeightSource
from outsize.isolate import run_isolated
from outsize.runtime.events import OnEvent, phase
from outsize.store.budget import peak_children_bytes, resident_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """A model at hand.

    Attributes:
        name: as the user named it.
        folder: has `config.json`, `generation_config.json` and the tokenizer.
        source: its weights.
        preparation_bytes: the most that gathering them took, the child process included.
        reading_bytes: what reading the weights takes beyond a few chunks.
    """

    name: str
    folder: Path
    source: WeightSource
    preparation_bytes: int
    reading_bytes: int = 0


@contextmanager
def prepared(name: str, on_event: OnEvent) -> Iterator[OpenModel]:
    """Find a model and gather its small files in a temporary folder.

    Raises:
        ModelError: it is unknown or unusable, or has no weights or no tokenizer.
        FormatError: a file is damaged.

    Cost: about 400 MiB in the child until it ends; reads no weights.
    """
    with TemporaryDirectory(prefix="outsize-generate-") as folder:
        with phase("model", on_event):
            found = run_isolated(
                "outsize.formats.prepare:prepare_for_training",
                {"model": name, "folder": folder, "tokenizer": None},
            )
        preparation_bytes = resident_bytes() + peak_children_bytes()
        source = open_weights(
            ModelFiles(
                name=str(found["name"]),
                folder=Path(str(found["folder"])),
                gguf_file=found["gguf_file"],
                kind=found["kind"],
            )
        )
        if source is None:
            raise ModelError(f"{name} has a config but no weights, so it cannot generate.")
        with closing(source):
            if not found["has_tokenizer"]:
                raise ModelError(f"{name} has no tokenizer, so it cannot read a prompt.")
            yield OpenModel(
                name=name,
                folder=Path(folder),
                source=source,
                preparation_bytes=preparation_bytes,
            )
