"""From a folder's `config.json` to a model, or to a refusal that says what is supported.

`build` gives the layered model that is streamed, `plain_model` the same model whole in memory, for
`verify` and for tests. What differs between architectures is in `architectures.py`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from outsize.errors import ModelError
from outsize.models.architectures import ARCHITECTURES, Architecture
from outsize.models.decoder import Decoder
from outsize.models.skeleton import build_module, build_skeleton

Source = Path | Mapping[str, Any] | PreTrainedConfig
"""A folder with a `config.json`, that file, its content, or a configuration of Transformers."""


def build(source: Source, dtype: torch.dtype) -> Decoder:
    """Return the layered model of a configuration.

    Raises:
        ModelError: there is no such configuration, or it asks for something that is not supported.
    Cost: no weights; about 100 MB of Transformers' code when it is the first model of the process.
    """
    architecture, config = read_config(source)
    return Decoder(
        build_skeleton(architecture, config, dtype),
        dtype=dtype,
        max_positions=getattr(config, "max_position_embeddings", None),
        logit_scale=architecture.logit_scale(config),
        softcap=architecture.softcap(config),
    )


def plain_model(source: Source, dtype: torch.dtype) -> PreTrainedModel:
    """Return Transformers' own model whole in memory, in evaluation mode.

    Its weights are initialised from the global random state.

    Raises:
        ModelError: as `build`.
    Cost: all weights in `dtype`.
    """
    architecture, config = read_config(source)
    return build_module(architecture, config, dtype)


def supported_architectures() -> tuple[str, ...]:
    """Return the names of all supported model classes."""
    return tuple(sorted(a.name for a in ARCHITECTURES))


def read_config(source: Source) -> tuple[Architecture, PreTrainedConfig]:
    """Return the architecture and the checked configuration.

    Raises:
        ModelError: as `build`.
    """
    if isinstance(source, PreTrainedConfig):
        content, place = source.to_dict(), f"this {type(source).__name__}"
    else:
        content, place = _content(source)
    architecture = _architecture(content, place)
    config = (
        source if isinstance(source, PreTrainedConfig) else _parse(architecture, content, place)
    )
    _refuse_unsupported(architecture, content, config)
    return architecture, config


def _content(source: Path | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    if isinstance(source, Mapping):
        return dict(source), "this configuration"
    path = source / "config.json" if source.is_dir() else source
    if not path.is_file():
        raise ModelError(f"{path} does not exist; a model is a folder with a config.json.")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object.")
    return content, str(path)


def _architecture(content: Mapping[str, Any], place: str) -> Architecture:
    names = content.get("architectures") or []
    model_type = content.get("model_type")
    for architecture in ARCHITECTURES:
        if architecture.name in names or (not names and architecture.model_type == model_type):
            return architecture
    found = ", ".join(map(str, names)) or model_type
    what = f"the architecture {found}" if found else "no architecture"
    raise ModelError(
        f"{place} names {what}, which is not supported. Supported are: "
        f"{', '.join(supported_architectures())}."
    )


def _parse(architecture: Architecture, content: dict[str, Any], place: str) -> PreTrainedConfig:
    config_class = architecture.model_class().config_class
    try:
        return config_class.from_dict(content)
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{place} is no valid {config_class.__name__}: {error}") from error


def _refuse_unsupported(
    architecture: Architecture, content: Mapping[str, Any], config: PreTrainedConfig
) -> None:
    """Refuse what would change the maths into something that is not streamed.

    A dynamic rotary embedding remembers the longest sequence so far, so a resumed run would not
    equal an uninterrupted one.
    """
    options = {
        "quantization_config": content.get("quantization_config") is not None,
        "is_encoder_decoder": bool(content.get("is_encoder_decoder")),
        "add_cross_attention": bool(content.get("add_cross_attention")),
        "use_bidirectional_attention": bool(content.get("use_bidirectional_attention")),
        "rope_type dynamic": "dynamic" in _rope_types(getattr(config, "rope_parameters", None)),
    }
    asked = [name for name, is_on in options.items() if is_on]
    if asked:
        raise ModelError(
            f"This {architecture.name} has {', '.join(asked)} in its configuration, "
            "which is not supported."
        )


def _rope_types(rope: Any) -> set[str]:
    """Return the rotary embedding's types; some models have one for each kind of layer."""
    if not isinstance(rope, Mapping):
        return set()
    nested = set().union(*(_rope_types(value) for value in rope.values()))
    return nested | {rope["rope_type"]} if isinstance(rope.get("rope_type"), str) else nested
