"""The table of supported architectures: what differs between them in names and in the head's maths.

The names are those of the table of shapes (`formats/shapes/families.py`), each line of which has
passed `tests/parity/test_models.py` too. A model class is imported from its own modeling file when
it is needed, because Transformers' automatic classes load far more.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from outsize.formats.shapes.families import FAMILIES


def _one(config: Any) -> float:
    return 1.0


def _logit_scale(config: Any) -> float:
    return config.logit_scale


def _inverse_logits_scaling(config: Any) -> float:
    return 1.0 / config.logits_scaling


def _no_softcap(config: Any) -> float | None:
    return None


def _final_softcap(config: Any) -> float | None:
    return config.final_logit_softcapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How one model class of Transformers is put together.

    Attributes:
        name: the class.
        model_type: what `config.json` calls the family.
        blocks: name of the list of decoder layers in the base model.
        norm: name of the final norm in the base model.
        table: name of the token embedding in the base model.
        package: the family's package in `transformers.models`; None when it is called `model_type`.
        logit_scale: factor on the logits.
        softcap: bound of the logits; None for none.
    """

    name: str
    model_type: str
    blocks: str
    norm: str
    table: str
    package: str | None = None
    logit_scale: Callable[[Any], float] = _one
    softcap: Callable[[Any], float | None] = _no_softcap

    def model_class(self) -> Any:
        """Return the class; imports its modeling file."""
        package = self.package or self.model_type
        module = importlib.import_module(f"transformers.models.{package}.modeling_{package}")
        return getattr(module, self.name)


_HEADS: Mapping[str, Mapping[str, Any]] = {
    "Gemma2ForCausalLM": {"softcap": _final_softcap},
    "Gemma3ForCausalLM": {"softcap": _final_softcap, "package": "gemma3"},
    "GraniteForCausalLM": {"logit_scale": _inverse_logits_scaling},
    "CohereForCausalLM": {"logit_scale": _logit_scale},
    "Cohere2ForCausalLM": {"logit_scale": _logit_scale},
}
"""What a line says besides the names; the others have plain logits."""

ARCHITECTURES: tuple[Architecture, ...] = tuple(
    Architecture(
        name=family.name,
        model_type=family.model_type,
        blocks=family.blocks,
        norm=family.norm,
        table=family.table,
        **_HEADS.get(family.name, {}),
    )
    for family in FAMILIES
)
