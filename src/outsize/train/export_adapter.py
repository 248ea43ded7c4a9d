"""What PEFT wants to know of adapters that a run has trained. No torch in here."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from outsize.plan.layout import Layout
from outsize.spec.adapter import ALL_LINEAR, AdapterSettings, has_in_first
from outsize.train.adapter import adapter_settings
from outsize.train.run_folder import base_of_run, read_options

FILE_STEM = "adapter_model"
FILE_PREFIX = "base_model.model."
"""What the names of tensors in PEFT's files begin with."""

MOST_BYTES = 2**62


def adapter_config(run: Path, layout: Layout) -> str | None:
    """Return the text of a run's `adapter_config.json`; None for a run without adapters.

    Raises:
        RunError: the run's record is damaged.
    """
    if not layout.model.has_adapters:
        return None
    settings = adapter_settings(read_options(run))
    assert settings is not None
    return json.dumps(config_entries(settings, layout, base_of_run(run)), indent=2) + "\n"


def config_entries(settings: AdapterSettings, layout: Layout, base: str) -> dict[str, Any]:
    """Return the entries of PEFT's `adapter_config.json`."""
    targets: Any = settings.target_modules
    if targets == ALL_LINEAR:
        targets = _targets(layout)
    initial = True if settings.init_lora_weights == "default" else settings.init_lora_weights
    alpha = settings.lora_alpha
    return asdict(settings) | {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": has_in_first(layout.model.architecture),
        "inference_mode": True,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "target_modules": targets if isinstance(targets, str) else sorted(targets),
        "exclude_modules": settings.exclude_modules or None,
        "layers_to_transform": list(settings.layers_to_transform) or None,
        "init_lora_weights": initial,
    }


def _targets(layout: Layout) -> set[str]:
    """Return the ends of the names of all modules that have an adapter."""
    names = (t.name for layer in layout.model.layers for t in layer.tensors if t.added)
    return {name.partition(".lora_")[0].rpartition(".")[2] for name in names}
