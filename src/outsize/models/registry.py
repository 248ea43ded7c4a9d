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
from outsize.formats.model_spec import spec_from_config
from outsize.formats.shapes.lookup import find_family, refuse_unsupported
from outsize.models import split_attention
from outsize.models.architectures import ARCHITECTURES, Architecture
from outsize.models.decoder import Decoder
from outsize.models.skeleton import build_module, build_skeleton
from outsize.spec.adapter import AdapterSettings, adapt
from outsize.values import PackedAttention, Packing

_REFUSALS = (
    StrictDataclassError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
)
"""What the constructors of Transformers' configurations raise."""

Source = Path | Mapping[str, Any] | PreTrainedConfig
"""A folder with a `config.json`, that file, its content, or a configuration of Transformers."""


def build(
    source: Source,
    dtype: torch.dtype,
    packed_attention: PackedAttention = "masked",
    adapter: AdapterSettings | None = None,
    packing: Packing | None = None,
) -> Decoder:
    """Return the layered model of a configuration.

    Args:
        source: the configuration.
        dtype: compute dtype.
        packed_attention: how rows of several examples are treated; without effect on models whose
            attention is not fused.
        adapter: adapters to train in place of the model's own weights; None trains those.
        packing: how the matrices below adapters are packed; None leaves them in `dtype`.

    Raises:
        ModelError: there is no such configuration, or it asks for something that is not supported.
        UsageError: the adapters fit no matrix of the model.
    Cost: no weights; about 100 MB of Transformers' code when it is the first model of the process.
    """
    architecture, config = read_config(source)
    entries = {**config.to_dict(), "architectures": [architecture.name]}
    place, formula = f"this {architecture.name}'s configuration", None
    if adapter is not None:  # before PEFT says the same in fewer words
        formula = adapt(spec_from_config(entries, place), adapter, packing)
    skeleton = build_skeleton(architecture, config, dtype, packed_attention, adapter)
    return Decoder(
        skeleton,
        dtype=dtype,
        formula=formula or spec_from_config(entries, place),
        adapter=adapter,
        max_positions=getattr(config, "max_position_embeddings", None),
        logit_scale=architecture.logit_scale(config),
        softcap=architecture.softcap(config),
    )


def plain_model(
    source: Source, dtype: torch.dtype, packed_attention: PackedAttention = "masked"
) -> PreTrainedModel:
    """Return Transformers' own model whole in memory, in evaluation mode; arguments as of `build`.

    Its weights are initialised from the global random state.

    Raises:
        ModelError: as `build`.
    Cost: all weights in `dtype`.
    """
    architecture, config = read_config(source)
    attention = split_attention.NAME if packed_attention == "split" else "sdpa"
    return build_module(architecture, config, dtype, attention)


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
    rope = getattr(config, "rope_parameters", None)
    refuse_unsupported(architecture.name, content, rope)
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
    name = find_family(content, place).name
    return next(a for a in ARCHITECTURES if a.name == name)


def _parse(architecture: Architecture, content: dict[str, Any], place: str) -> PreTrainedConfig:
    config_class = architecture.model_class().config_class
    try:
        return config_class.from_dict(content)
    except _REFUSALS as error:
        raise ModelError(f"{place} is no valid {config_class.__name__}: {error}") from error
