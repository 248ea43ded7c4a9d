"""What a comparison needs before it begins, made in a child process that ends before the others.

Config and token rows are the same for all cases. A model that plain PyTorch has no room for is cut
to its first layers; both sides then train that smaller model.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers.configuration_utils import PreTrainedConfig

from outsize.errors import UsageError
from outsize.formats.prepare import prepare_model
from outsize.models.registry import build, read_config
from outsize.spec.model import ModelSpec
from outsize.train.verify.room import blocks_with_room
from outsize.train.verify.token_rows import write_token_rows


def prepare(
    *,
    model: str,
    folder: str,
    layers: int | None,
    dtypes: list[str],
    steps: int,
    tokens_per_step: int,
    max_seq_length: int,
    seed: int,
    free_bytes: int,
) -> dict[str, Any]:
    """Fill the run folder's `model/` and `data/`.

    Args:
        model: as the user named it.
        folder: the run folder, which exists.
        layers: blocks to use; None takes as many as there is room for.
        dtypes: compute dtypes that will be compared.
        steps: of each side.
        tokens_per_step: of one step, which may be one micro-batch.
        max_seq_length: tokens of a row.
        seed: of the token rows.
        free_bytes: host memory that plain PyTorch may take.

    Returns:
        JSON-able: `name`, `folder`, `gguf_file` and `kind` as in `ModelFiles`; `num_layers`,
        `num_layers_model`, `num_elements`.

    Raises:
        OutsizeError: the model cannot be used, or there are fewer layers or less room than asked.
    """
    place = Path(folder) / "model"
    place.mkdir()
    found = prepare_model(model, place)
    spec = build(place, torch.float32).spec
    num_layers_model = _num_blocks(spec)
    num_layers = layers
    if num_layers is None:
        num_layers = min(
            blocks_with_room(spec, tokens_per_step, dtype, free_bytes) for dtype in dtypes
        )
    if num_layers > num_layers_model:
        raise UsageError(
            f"layers must be at most {num_layers_model}, the decoder layers of {model}; "
            f"got {num_layers}."
        )
    if num_layers < num_layers_model:
        keep_first_layers(place, num_layers)
        spec = build(place, torch.float32).spec
    num_rows = steps * tokens_per_step // max_seq_length
    write_token_rows(
        Path(folder) / "data",
        num_rows=num_rows,
        seq_length=max_seq_length,
        vocab_size=spec.vocab_size,
        seed=seed,
    )
    return found | {
        "num_layers": num_layers,
        "num_layers_model": num_layers_model,
        "num_elements": spec.num_elements,
    }


def keep_first_layers(folder: Path, num_layers: int) -> None:
    """Rewrite the folder's `config.json` so that it describes the model's first layers alone."""
    _, config = read_config(folder)
    whole, content = config.num_hidden_layers, json.loads((folder / "config.json").read_bytes())
    for key, value in content.items():
        if "layer" in key and isinstance(value, list) and len(value) == whole:
            content[key] = value[:num_layers]  # for example layer_types
    content[_count_key(config)] = num_layers
    (folder / "config.json").write_text(json.dumps(content, indent=2))


def _count_key(config: PreTrainedConfig) -> str:
    return config.attribute_map.get("num_hidden_layers", "num_hidden_layers")


def _num_blocks(spec: ModelSpec) -> int:
    return sum(layer.kind == "block" for layer in spec.layers)
