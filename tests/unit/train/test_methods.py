"""The method that is chosen where the user leaves the choice to the planner."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from outsize.errors import BudgetError
from outsize.formats.model_spec import KnownModel, know_model
from outsize.machines.catalogue import catalogue_machine
from outsize.results import TierBytes
from outsize.runtime.events import ignore
from outsize.train.foresee import foresee
from outsize.train.methods import best_method, possible, price_rows, prices, with_method
from outsize.train.options import PlanOptions
from outsize.train.plan_result import MethodPrice

GIB = 2**30
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 128_000,
}


@pytest.fixture
def known(tmp_path: Path) -> KnownModel:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    found = know_model(str(tmp_path))
    return replace(found, files=replace(found.files, kind="safetensors"))


def options(**changes: object) -> PlanOptions:
    return PlanOptions(**({"model": "m", "data": "d", "tokens_per_step": 1024} | changes))  # type: ignore[arg-type]


def found(known: KnownModel, host: int, disk: int = 10**12, **changes: object):
    machine = catalogue_machine("laptop")
    budget = TierBytes(host=host, disk=disk)
    return prices(options(**changes), known, machine, budget, {"tokenizer and data": 0})


def test_the_first_that_fits_is_taken(known: KnownModel) -> None:
    full, *adapters = [price.host_bytes for price in found(known, 400 * 2**20)]
    assert full > max(adapters)  # gradients of table and head take more than fp32 adapters
    assert best_method(found(known, full + GIB)) == "full"
    taken = found(known, full - (full - max(adapters)) // 4)
    assert [price.fits for price in taken] == [False, True, True]
    assert best_method(taken) == "lora"
    labels = dict(price_rows(taken))
    assert labels["method full"].startswith("needs ")
    assert labels["method lora"].endswith(": taken")
    assert "a step" in labels["method qlora"]


def test_where_none_fits_the_one_that_needs_least_is_refused(known: KnownModel) -> None:
    nothing = found(known, 400 * 2**20)
    assert not any(price.fits for price in nothing)
    assert best_method(nothing) == min(nothing, key=lambda price: price.host_bytes).method
    assert not any(text.endswith(": taken") for _, text in price_rows(nothing))


def test_the_disk_counts_too(known: KnownModel) -> None:
    full, lora, qlora = found(known, 8 * GIB)
    assert None not in (full.disk_bytes, lora.disk_bytes, qlora.disk_bytes)
    assert full.disk_bytes > lora.disk_bytes > qlora.disk_bytes  # type: ignore[operator]
    assert best_method(found(known, 8 * GIB, disk=lora.disk_bytes or 0)) == "lora"


def test_what_is_trained_and_written_is_less(known: KnownModel) -> None:
    full, lora, qlora = found(known, 8 * GIB)
    assert full.num_trainable == known.spec.num_elements
    assert 100 * lora.num_trainable < full.num_trainable
    assert lora.num_trainable == qlora.num_trainable


@pytest.mark.parametrize(
    ("changes", "has_weights", "methods"),
    [
        ({}, True, ("full", "lora", "qlora")),
        ({}, False, ("full",)),
        ({"lora_r": 4}, True, ("lora", "qlora")),
        ({"lora_r": 4}, False, ("lora", "qlora")),
        ({"quantization": "int8"}, True, ("qlora",)),
    ],
)
def test_options_narrow_the_choice(
    changes: dict[str, object], has_weights: bool, methods: tuple[str, ...]
) -> None:
    assert possible(options(**changes), has_weights=has_weights) == methods


def test_options_of_adapters_are_priced(known: KnownModel) -> None:
    (price,) = found(known, 8 * GIB, quantization="int8")
    assert (price.method, price.fits) == ("qlora", True)
    small, _ = found(known, 8 * GIB, lora_r=1)
    large, _ = found(known, 8 * GIB, lora_r=16)
    assert large.num_trainable == 16 * small.num_trainable


@pytest.mark.parametrize("changes", [{}, {"lora_r": 4}, {"quantization": "int8"}])
def test_a_machine_with_an_accelerator_is_planned_for(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    asked = PlanOptions(model=str(tmp_path), machine="workstation-24gb", dry_run=True, **changes)  # type: ignore[arg-type]
    expected = {"": "full", "lora_r": "lora", "quantization": "qlora"}["".join(changes)]
    assert foresee(asked, ignore).method == expected


def test_a_model_without_weights_never_gets_adapters_by_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    asked = PlanOptions(model=str(tmp_path), machine="laptop", memory_bytes=GIB // 2, dry_run=True)
    with pytest.raises(BudgetError):
        foresee(asked, ignore)


def test_a_method_that_was_asked_for_is_not_priced(known: KnownModel) -> None:
    assert with_method(known, options(method="full")) is known
    assert with_method(known, options(method="lora")).spec.num_trainable < 10**7
    assert price_rows(()) == ()
    assert isinstance(found(known, 8 * GIB)[0], MethodPrice)
