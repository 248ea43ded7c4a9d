"""The table of supported architectures: what differs between them in names and in the head's maths.

Each line has passed `tests/parity/test_models.py`. A model class is imported from its own modeling
file when it is needed, because Transformers' automatic classes load far more.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
        package: the family's package in `transformers.models`; None when it is called `model_type`.
        blocks: name of the list of decoder layers in the base model.
        norm: name of the final norm in the base model.
        table: name of the token embedding in the base model.
        logit_scale: factor on the logits.
        softcap: bound of the logits; None for none.
    """

    name: str
    model_type: str
    package: str | None = None
    blocks: str = "layers"
    norm: str = "norm"
    table: str = "embed_tokens"
    logit_scale: Callable[[Any], float] = _one
    softcap: Callable[[Any], float | None] = _no_softcap

    def model_class(self) -> Any:
        """Return the class; imports its modeling file."""
        package = self.package or self.model_type
        module = importlib.import_module(f"transformers.models.{package}.modeling_{package}")
        return getattr(module, self.name)


ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(name="LlamaForCausalLM", model_type="llama"),
    Architecture(name="MistralForCausalLM", model_type="mistral"),
    Architecture(name="MinistralForCausalLM", model_type="ministral"),
    Architecture(name="Qwen2ForCausalLM", model_type="qwen2"),
    Architecture(name="Qwen3ForCausalLM", model_type="qwen3"),
    Architecture(name="GemmaForCausalLM", model_type="gemma"),
    Architecture(name="Gemma2ForCausalLM", model_type="gemma2", softcap=_final_softcap),
    Architecture(
        name="Gemma3ForCausalLM",
        model_type="gemma3_text",
        package="gemma3",
        softcap=_final_softcap,
    ),
    Architecture(name="Phi3ForCausalLM", model_type="phi3"),
    Architecture(name="PhiForCausalLM", model_type="phi", norm="final_layernorm"),
    Architecture(name="GPT2LMHeadModel", model_type="gpt2", blocks="h", norm="ln_f", table="wte"),
    Architecture(
        name="GPTNeoXForCausalLM", model_type="gpt_neox", norm="final_layer_norm", table="embed_in"
    ),
    Architecture(
        name="GraniteForCausalLM", model_type="granite", logit_scale=_inverse_logits_scaling
    ),
    Architecture(name="OlmoForCausalLM", model_type="olmo"),
    Architecture(name="Olmo2ForCausalLM", model_type="olmo2"),
    Architecture(name="Olmo3ForCausalLM", model_type="olmo3"),
    Architecture(name="SmolLM3ForCausalLM", model_type="smollm3"),
    Architecture(name="StableLmForCausalLM", model_type="stablelm"),
    Architecture(name="Starcoder2ForCausalLM", model_type="starcoder2"),
    Architecture(name="CohereForCausalLM", model_type="cohere", logit_scale=_logit_scale),
    Architecture(name="Cohere2ForCausalLM", model_type="cohere2", logit_scale=_logit_scale),
    Architecture(name="GlmForCausalLM", model_type="glm"),
    Architecture(name="Glm4ForCausalLM", model_type="glm4"),
    Architecture(name="NemotronForCausalLM", model_type="nemotron"),
    Architecture(name="ArceeForCausalLM", model_type="arcee"),
    Architecture(name="HeliumForCausalLM", model_type="helium"),
    Architecture(name="SeedOssForCausalLM", model_type="seed_oss"),
    Architecture(name="Exaone4ForCausalLM", model_type="exaone4"),
)
