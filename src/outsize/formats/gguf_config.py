"""The Transformers config of a GGUF file, from its metadata.

Transformers has the table from GGUF keys to config entries. It is given a small file with the
checked metadata alone: its own reader trusts every count in a header and takes hundreds of
megabytes for the token lists. What that table leaves out or guesses is set by `gguf_entries.py`.
Runs in a child process; read `prepare.py` next.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from outsize.errors import ModelError
from outsize.formats.gguf_entries import corrected_entries, refuse_rope_scaling
from outsize.formats.gguf_types import GgufHeader, Value

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PretrainedConfig


def config_from_gguf(path: Path, header: GgufHeader) -> "PretrainedConfig":
    """Return the config of the model in a GGUF file.

    Args:
        path: the file, for messages.
        header: its checked header, of an architecture in `gguf_names.ARCHITECTURES`.

    Raises:
        ModelError: the metadata is incomplete, or describes what the config cannot express.
    """
    from transformers import AutoConfig

    refuse_rope_scaling(path, header)
    with tempfile.TemporaryDirectory() as folder:
        _write_metadata(Path(folder) / "metadata.gguf", header)
        try:
            config = AutoConfig.from_pretrained(
                folder, gguf_file="metadata.gguf", local_files_only=True
            )
        except Exception as error:  # Transformers raises whatever its table runs into
            raise ModelError(f"The metadata of {path} makes no config: {error}") from error
    config.update(corrected_entries(path, header))
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
