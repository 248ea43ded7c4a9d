"""Which architecture a config names, and what of it is not supported.

`models/registry.py` asks here too, so that a plan and a run refuse the same models in the same
words.
"""

from collections.abc import Mapping
from typing import Any

from outsize.errors import ModelError
from outsize.formats.shapes.entries import shown
from outsize.formats.shapes.families import FAMILIES
from outsize.formats.shapes.family import Family

_MAX_NAMES = 8


def supported_architectures() -> tuple[str, ...]:
    """Return the names of all supported model classes."""
    return tuple(sorted(family.name for family in FAMILIES))


def find_family(config: Mapping[str, Any], place: str) -> Family:
    """Return the architecture that a config names, or else that of its `model_type`.

    Args:
        config: the content of a `config.json`.
        place: where it is, for messages.

    Raises:
        ModelError: it names none, or one that is not supported; says which are.
    """
    names, model_type = _names(config, place), config.get("model_type")
    for family in FAMILIES:
        if family.name in names or (not names and family.model_type == model_type):
            return family
    found = ", ".join(names) or (model_type if isinstance(model_type, str) else "")
    what = f"the architecture {found}" if found else "no architecture"
    raise ModelError(
        f"{place} names {what}, which is not supported. Supported are: "
        f"{', '.join(supported_architectures())}."
    )


def refuse_unsupported(name: str, config: Mapping[str, Any], rope: object = None) -> None:
    """Refuse what would change the maths into something that is not streamed.

    A dynamic rotary embedding remembers the longest sequence so far, so a resumed run would not
    equal an uninterrupted one.

    Args:
        name: the architecture.
        config: the content of a `config.json`.
        rope: settings of the rotary embedding that the config was read as; None takes those that
            it states.

    Raises:
        ModelError: an option is not supported; names it.
    """
    stated = (
        (config.get("rope_parameters"), config.get("rope_scaling")) if rope is None else (rope,)
    )
    options = {
        "quantization_config": config.get("quantization_config") is not None,
        "is_encoder_decoder": bool(config.get("is_encoder_decoder")),
        "add_cross_attention": bool(config.get("add_cross_attention")),
        "use_bidirectional_attention": bool(config.get("use_bidirectional_attention")),
        "per_layer_config": config.get("per_layer_config") is not None,
        "rope_type dynamic": any("dynamic" in _rope_types(value) for value in stated),
    }
    asked = [option for option, is_on in options.items() if is_on]
    if asked:
        raise ModelError(
            f"This {name} has {', '.join(asked)} in its configuration, which is not supported."
        )


def _names(config: Mapping[str, Any], place: str) -> list[str]:
    names = config.get("architectures") or []
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ModelError(
            f"In {place}, architectures is {shown(names)}; it must be a list of names."
        )
    return [name[:100] for name in names[:_MAX_NAMES]]


def _rope_types(rope: object, depth: int = 2) -> set[str]:
    """Return the rotary embedding's types; some models have one for each kind of layer."""
    if not isinstance(rope, Mapping) or not depth:
        return set()
    nested = set().union(*(_rope_types(value, depth - 1) for value in rope.values()))
    own = (rope.get("rope_type"), rope.get("type"))  # the second is the entry's old name
    return nested | {name for name in own if isinstance(name, str)}
