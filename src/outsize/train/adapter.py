"""From options to the adapters that a run trains. No torch and no PEFT in here."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from outsize.errors import UsageError
from outsize.paths import is_file, is_folder, user_path
from outsize.spec.adapter import ALL_LINEAR, AdapterSettings, InitLoraWeights, pattern_of_key
from outsize.store.kernel import reason
from outsize.train.options import TrainOptions
from outsize.values import Packing

Options = TypeVar("Options", bound=TrainOptions)

CONFIG_NAME = "adapter_config.json"

_READ = frozenset(
    {
        "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "use_rslora",
        "use_dora", "init_lora_weights", "layers_to_transform", "rank_pattern", "alpha_pattern",
    }
)  # fmt: skip
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode",
        "megatron_core", "peft_type", "peft_version", "qalora_group_size", "revision",
        "runtime_config", "task_type",
    }
)  # fmt: skip
"""Entries of PEFT's file that say where an adapter comes from, or belong to what is refused."""

_UNSET = (None, False, "none", [], {}, "")


def settled(options: Options) -> Options:
    """Return the options with the content of the file that `lora_config` names in its place, so
    that a run can go on without it.

    Raises:
        UsageError: there is no such file, or it is no PEFT configuration of LoRA.
    """
    if options.lora_config is None:
        return options
    content = _read(options.lora_config)
    _settings_of(content)
    return replace(options, lora_config=json.dumps(content, sort_keys=True))


def config_text(config: object) -> str:
    """Return the entries of a `peft.LoraConfig` as text.

    Raises:
        UsageError: it is something else.
    """
    entries = getattr(config, "to_dict", dict)()
    if not entries:
        raise UsageError(
            f"lora_config must be a peft.LoraConfig, or text; got {type(config).__name__}."
        )
    return json.dumps(entries, default=lambda value: sorted(value), sort_keys=True)


def adapter_settings(options: TrainOptions) -> AdapterSettings | None:
    """Return the adapters that a run trains; None when it trains the model's own weights.

    Raises:
        UsageError: as `settled`.
    """
    if not options.has_adapters:
        return None
    if options.lora_config is not None:
        settings = _settings_of(_read(options.lora_config))
        return replace(settings, use_dora=settings.use_dora or options.method == "dora")
    targets = tuple(name.strip() for name in options.target_modules.split(",") if name.strip())
    return AdapterSettings(
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=targets[0] if targets == ("all-linear",) else targets,
        use_rslora=options.use_rslora,
        use_dora=options.method == "dora",
    )


def packing(options: TrainOptions) -> Packing | None:
    """Return how a run packs what it only reads; None where it does not."""
    return options.quantization if options.method == "qlora" else None


def _read(given: str) -> dict[str, Any]:
    """Return the content of a file, of the folder that has it, or of the text itself."""
    text, place = given, "lora_config"
    if not given.lstrip().startswith("{"):
        path = user_path(given)
        path = path / CONFIG_NAME if is_folder(path) else path
        if not is_file(path):
            raise UsageError(
                f"{path} does not exist; lora_config is an {CONFIG_NAME} or the folder of one."
            )
        try:
            text, place = path.read_text(errors="replace"), str(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {reason(error)}.") from error
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is not valid JSON: {error}.") from error
    if not isinstance(content, dict) or content.get("peft_type", "LORA") != "LORA":
        raise UsageError(f"{place} is no configuration of LoRA: its peft_type is not LORA.")
    return content


def _settings_of(content: Mapping[str, Any]) -> AdapterSettings:
    for name, value in content.items():
        if name not in _READ | _WITHOUT_EFFECT and value not in _UNSET:
            raise UsageError(f"lora_config asks for {name}={value!r}, which is not supported.")
    try:
        return _convert({name: content[name] for name in _READ & content.keys()})
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"lora_config has an entry that cannot be read: {error}.") from error


def _convert(entries: Mapping[str, Any]) -> AdapterSettings:
    usual = AdapterSettings()
    targets, layers = _names(entries.get("target_modules")), entries.get("layers_to_transform")
    if not targets:
        raise ValueError("target_modules is not set, and no model has usual ones here")
    if layers and isinstance(targets, str) and targets != ALL_LINEAR:
        raise ValueError("layers_to_transform is for names in target_modules, not for a pattern")
    found = AdapterSettings(
        r=_integer(entries.get("r", usual.r)),
        lora_alpha=_number(entries.get("lora_alpha", usual.lora_alpha)),
        lora_dropout=_number(entries.get("lora_dropout", usual.lora_dropout)),
        target_modules=targets,
        exclude_modules=_names(entries.get("exclude_modules")),
        use_rslora=_flag(entries.get("use_rslora")),
        use_dora=_flag(entries.get("use_dora")),
        init_lora_weights=_init(entries.get("init_lora_weights", True)),
        layers_to_transform=tuple(
            map(_integer, [layers] if isinstance(layers, int) else layers or ())
        ),
        rank_pattern={k: _integer(v) for k, v in (entries.get("rank_pattern") or {}).items()},
        alpha_pattern={k: _number(v) for k, v in (entries.get("alpha_pattern") or {}).items()},
    )
    for pattern in (found.target_modules, found.exclude_modules):
        if isinstance(pattern, str):
            _check_pattern(pattern, pattern)
    for pattern in (*found.rank_pattern, *found.alpha_pattern):
        _check_pattern(pattern, pattern_of_key(pattern))
    if found.r < 1 or min(found.rank_pattern.values(), default=1) < 1:
        raise ValueError("a rank must be at least 1")
    if not 0 <= found.lora_dropout < 1:
        raise ValueError("lora_dropout must be at least 0 and below 1")
    return found


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not finite")
    return float(value)


def _flag(value: Any) -> bool:
    if value not in (None, True, False):
        raise TypeError(f"{value!r} is neither true nor false")
    return bool(value)


def _check_pattern(pattern: str, whole: str) -> None:
    try:
        re.compile(whole)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no pattern: {error}") from error


def _names(value: Any) -> tuple[str, ...] | str:
    return value if isinstance(value, str) else tuple(sorted(map(str, value or ())))


def _init(value: Any) -> InitLoraWeights:
    if value is True:
        return "default"
    if value == "gaussian":
        return "gaussian"
    raise ValueError(f"init_lora_weights={value!r} is not supported, only true and gaussian")


def settings_of_file(folder: Path) -> tuple[AdapterSettings, str | None]:
    """Return what a folder's `adapter_config.json` says, and the model that it names.

    Raises:
        UsageError: as `settled`.
    """
    content = _read(str(folder))
    base = content.get("base_model_name_or_path")
    return _settings_of(content), str(base) if base else None
