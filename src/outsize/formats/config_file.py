"""A model's `config.json`, read before any library trusts it."""

import json
from pathlib import Path
from typing import Any

from outsize.errors import FormatError, ModelError
from outsize.store.kernel import reason

MAX_CONFIG_BYTES = 16 << 20


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the content of a `config.json`.

    Raises:
        FormatError: it cannot be read, is too large, no JSON object, or names no model type.
        ModelError: it describes quantised weights.
    """
    try:
        num_bytes = path.stat().st_size
        if num_bytes > MAX_CONFIG_BYTES:
            raise FormatError(f"{path} has {num_bytes} bytes, which is no config.")
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(entries, dict) or not isinstance(entries.get("model_type"), str):
        raise FormatError(f"{path} has no model_type.")
    if "quantization_config" in entries:
        raise ModelError(
            f"{path} describes weights quantised for inference (quantization_config), which "
            "cannot be trained. Use the model's original weights."
        )
    return entries
