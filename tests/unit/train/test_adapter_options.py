import json
from pathlib import Path

import peft
import pytest

from outsize.errors import UsageError
from outsize.spec.adapter import AdapterSettings
from outsize.train.adapter import adapter_settings, config_text, settled
from outsize.train.options import TrainOptions


def options(**changes: object) -> TrainOptions:
    return TrainOptions(**({"model": "m", "data": "d", "method": "lora"} | changes))  # type: ignore[arg-type]


def test_a_full_run_has_no_adapters() -> None:
    assert adapter_settings(options(method="full")) is None


def test_options_become_settings() -> None:
    asked = options(
        method="dora", lora_r=4, lora_alpha=16.0, lora_dropout=0.1, use_rslora=True,
        target_modules="q_proj, v_proj",
    )  # fmt: skip
    assert adapter_settings(asked) == AdapterSettings(
        r=4, lora_alpha=16.0, lora_dropout=0.1, use_rslora=True, use_dora=True,
        target_modules=("q_proj", "v_proj"),
    )  # fmt: skip


@pytest.mark.parametrize("how", ["text", "file", "folder"])
def test_what_peft_writes_is_read(tmp_path: Path, how: str) -> None:
    config = peft.LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["v_proj", "q_proj"],
        exclude_modules=["0.q_proj"], layers_to_transform=[1], init_lora_weights="gaussian",
        rank_pattern={"q_proj": 4}, alpha_pattern={"q_proj": 8}, use_dora=True,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    given = {
        "text": config_text(config),
        "file": str(tmp_path / "adapter_config.json"),
        "folder": str(tmp_path),
    }
    asked = settled(options(lora_config=given[how]))
    (tmp_path / "adapter_config.json").unlink()
    assert adapter_settings(asked) == AdapterSettings(
        r=16, lora_alpha=32, lora_dropout=0.05, target_modules=("q_proj", "v_proj"),
        exclude_modules=("0.q_proj",), layers_to_transform=(1,), init_lora_weights="gaussian",
        rank_pattern={"q_proj": 4}, alpha_pattern={"q_proj": 8}, use_dora=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("nowhere", "nowhere does not exist; lora_config is an adapter_config.json"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "does not exist"),
        ('{"peft_type": "IA3"}', "its peft_type is not LORA"),
        ('{"modules_to_save": ["lm_head"]}', "modules_to_save=['lm_head'], which is not supported"),
        ('{"target_modules": ["q"], "bias": "all"}', "asks for bias='all'"),
        (
            '{"target_modules": ["q"], "init_lora_weights": "pissa"}',
            "init_lora_weights='pissa' is not supported",
        ),
        (
            '{"target_modules": ["q"], "init_lora_weights": false}',
            "init_lora_weights=False is not supported",
        ),
        ('{"target_modules": ["q"], "r": 0}', "a rank must be at least 1"),
        ('{"target_modules": ["q"], "r": "many"}', "cannot be read"),
        ('{"target_modules": ["q"], "lora_dropout": 1.5}', "below 1"),
        ('{"target_modules": 3}', "cannot be read"),
        ('{"target_modules": ["q"], "rank_pattern": ["q"]}', "cannot be read"),
        ('{"target_modules": "*"}', "is no pattern"),
        ('{"target_modules": ["q"], "rank_pattern": {"(": 2}}', "is no pattern"),
        ('{"target_modules": ["q"], "rank_pattern": {"(?i)q": 2}}', "is no pattern"),
        ('{"target_modules": ["q"], "r": Infinity}', "is no whole number"),
        ('{"target_modules": ["q"], "r": 8.5}', "is no whole number"),
        ('{"target_modules": ["q"], "lora_alpha": NaN}', "is not finite"),
        ('{"target_modules": ["q"], "use_dora": "false"}', "is neither true nor false"),
        ('{"target_modules": ".*q", "layers_to_transform": [1]}', "not for a pattern"),
        ('{"r": 4}', "target_modules is not set"),
    ],
)
def test_a_configuration_that_cannot_be_honoured_is_refused(content: str, words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        settled(options(lora_config=content))
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "full", "lora_r": 4}, "lora_r is for adapters, and method is full"),
        ({"lora_config": "{}", "lora_r": 4}, "leave lora_r out"),
        ({"lora_r": 0}, "lora_r"),
        ({"quantization": "int8"}, "quantization is for method=qlora, and method is lora"),
        ({"method": "qlora", "quantization": "int2"}, "quantization must be one of"),
        ({"lora_dropout": 1.0}, "lora_dropout"),
        ({"method": "loora"}, "method must be one of"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        options(**changes)
    assert words in str(refusal.value)


def test_something_else_than_a_configuration_is_refused() -> None:
    with pytest.raises(UsageError, match=r"must be a peft\.LoraConfig, or text; got object"):
        config_text(object())


def test_the_text_of_a_configuration_is_json() -> None:
    text = config_text(peft.LoraConfig(target_modules={"b", "a"}))
    assert json.loads(text)["target_modules"] == ["a", "b"]
