"""A model's `config.json`, read before any library trusts it."""

import json
from pathlib import Path
from typing import Any

from outsize.errors import FormatError, ModelError

MAX_CONFIG_BYTES = 16 << 20


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the content of a `config.json`.

    Raises:
        FormatError: it is too large, no JSON object, or names no model type.
        ModelError: it describes quantised weights.
    """
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise FormatError(f"{path} has {path.stat().st_size} bytes, which is no config.")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
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
