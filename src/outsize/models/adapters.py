"""PEFT's own adapter modules inside a model without weights.

They are put in place before the model is taken apart, so that a block runs exactly what PEFT runs.
PEFT calls the matrix below an adapter `q_proj.base_layer.weight` and the adapter's own
`q_proj.lora_A.default.weight`; here tensors have the names that they have in files.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from outsize.errors import ModelError
from outsize.models.initialise import stream_seed
from outsize.spec.adapter import ALL_LINEAR, AdapterSettings, has_in_first

NAME = "default"
"""What PEFT calls an adapter that was given no name."""

_INITS: Mapping[str, bool | str] = {"default": True, "gaussian": "gaussian"}


def lora_config(settings: AdapterSettings, architecture: str) -> Any:
    """Return the settings as a `peft.LoraConfig` for a model of that class.

    Raises:
        ModelError: PEFT is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ModelError(f"Adapters need PEFT: pip install peft ({error}).") from error
    targets, excluded = settings.target_modules, settings.exclude_modules
    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        fan_in_fan_out=has_in_first(architecture),
        target_modules=targets if isinstance(targets, str) else list(targets),
        exclude_modules=(excluded if isinstance(excluded, str) else list(excluded)) or None,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        init_lora_weights=_INITS[settings.init_lora_weights],
        layers_to_transform=list(settings.layers_to_transform) or None,
        rank_pattern=dict(settings.rank_pattern),
        alpha_pattern=dict(settings.alpha_pattern),
        task_type="CAUSAL_LM",
    )


def add_adapters(causal: nn.Module, settings: AdapterSettings) -> None:
    """Put adapters in a model whose parameters are on the meta device; they are there too.

    Raises:
        ModelError: PEFT does not accept the settings for this model.
    """
    if settings.target_modules == ALL_LINEAR:  # which PEFT takes for all layers only
        settings = replace(settings, target_modules=_linear_names(causal))
    try:
        config = lora_config(settings, type(causal).__name__)
        from peft import inject_adapter_in_model

        inject_adapter_in_model(config, causal, NAME, low_cpu_mem_usage=True)
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise ModelError(f"PEFT cannot add these adapters: {error}") from error
    for parameter in causal.parameters():
        parameter._is_hf_initialized = True  # type: ignore[attr-defined]


def _linear_names(causal: Any) -> tuple[str, ...]:
    """Return the ends of the names of all matrices but the output projection."""
    from transformers.pytorch_utils import Conv1D

    output = causal.get_output_embeddings()
    found = (
        name.rpartition(".")[2]
        for name, module in causal.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not output
    )
    return tuple(dict.fromkeys(found))


def file_name(name: str) -> str:
    """Return the name of a parameter in files: of the base, as if there were no adapters; of an
    adapter, without the prefix that PEFT's files have.
    """
    name = name.replace(".base_layer.", ".")
    name = re.sub(rf"\.(lora_[AB])\.{NAME}\.", r".\1.", name)
    return name.replace(f".lora_magnitude_vector.{NAME}.weight", ".lora_magnitude_vector")


def initialise_adapters(
    block: nn.Module,
    name: str,
    settings: AdapterSettings,
    seed: int,
    values: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
) -> None:
    """Write what the adapters of a block start with.

    Args:
        block: has PEFT's modules, with all parameters on the meta device.
        name: the block's name in the model.
        settings: of the adapters.
        seed: together with a module's name, decides its values.
        values: the adapters' tensors by their names in files, fp32; overwritten. What is not among
            them stays as it is.
        base: the block's own tensors, likewise.

    Cost: one random state.
    """
    for local, module in block.named_modules():
        module_name = f"{name}.{local}"
        if f"{module_name}.lora_A.weight" not in values:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, f"{module_name}.lora"))
            _initialise(module, module_name, settings, values)
        magnitude = values.get(f"{module_name}.lora_magnitude_vector")
        if magnitude is not None:
            weight = base[f"{module_name}.weight"]
            rows = weight.t() if module.fan_in_fan_out else weight
            torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32, out=magnitude)


def _initialise(
    module: Any, name: str, settings: AdapterSettings, values: Mapping[str, Tensor]
) -> None:
    holders = (module.lora_A[NAME], module.lora_B[NAME])
    before = [holder.weight for holder in holders]
    for holder, part in zip(holders, ("lora_A", "lora_B"), strict=True):
        holder.weight = nn.Parameter(values[f"{name}.{part}.weight"], requires_grad=False)
    try:
        with torch.no_grad():
            module.reset_lora_parameters(NAME, _INITS[settings.init_lora_weights])
    finally:
        for holder, placeholder in zip(holders, before, strict=True):
            holder.weight = placeholder


@contextmanager
def dropout(block: nn.Module, seed: int | None) -> Iterator[None]:
    """While active, the adapters of a block leave out what `seed` says; None leaves nothing out."""
    from peft.tuners.lora import LoraLayer

    adapters = [module for module in block.modules() if isinstance(module, LoraLayer)]
    for module in adapters:
        module.train(seed is not None)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        yield
