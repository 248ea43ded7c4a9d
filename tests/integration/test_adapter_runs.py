"""Adapters from the verbs' side: train, resume, export into PEFT, merge, and what is refused."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from killed_runs import STREAMED_BYTES, Server, losses_in, make_folder
from test_predicted_bytes import interrupt_after, moved, settings
from tiny_run import write_model
from transformers import AutoModelForCausalLM

import outsize
from outsize.errors import BudgetError, ModelError, OutsizeError, RunError, UsageError
from outsize.formats.safetensors import SafetensorsSource
from outsize.runtime.slots import extent_name
from outsize.train.committed import read_layout
from outsize.train.state_file import durable_extents

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
TOKENS = torch.arange(48).view(2, 24)


@pytest.fixture(scope="module", params=["lora", "dora"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that learn a lot, so that what is lost shows."""
    folder = tmp_path_factory.mktemp(request.param)
    asked = settings(folder, method=request.param, learning_rate=0.02, lora_alpha=16.0)
    result = outsize.train(**asked)
    assert moved(result)[0] > 0
    assert result.method == request.param
    return folder


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(TOKENS).logits


def test_the_export_loads_in_peft_and_has_learned(run: Path) -> None:
    result = outsize.export(str(run / "run"), output=str(run / "adapter"))
    assert result.dtype == "float32"
    files = {path.name for path in (run / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= files
    assert "config.json" not in files
    base = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32)
    before = logits(base)
    adapted = peft.PeftModel.from_pretrained(base, run / "adapter")
    assert (logits(adapted) - before).abs().max() > 0.05
    stored = SafetensorsSource(run / "adapter", "adapter_model.safetensors").tensors
    assert result.num_elements == sum(tensor.num_elements for tensor in stored.values())


def test_a_merge_is_what_peft_merges(run: Path) -> None:
    outsize.export(str(run / "run"), output=str(run / "for-merge"))
    results = [
        outsize.merge(adapter, model=model, output=str(run / f"merged{n}"), dtype="float32")
        for n, (adapter, model) in enumerate(
            ((str(run / "run"), None), (str(run / "for-merge"), str(run / "model")))
        )
    ]
    assert [r.num_merged for r in results] == [21, 21]
    base = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(base, run / "for-merge").merge_and_unload()
    expected = merged.state_dict()
    for n in range(2):
        ours = AutoModelForCausalLM.from_pretrained(run / f"merged{n}", dtype=torch.float32)
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(logits(ours), logits(merged), rtol=1e-4, atol=1e-4)
    with pytest.raises(RunError, match="has these adapters merged into it already"):
        outsize.merge(str(run / "run"), model=str(run / "merged0"), output=str(run / "twice"))
    assert not (run / "twice").exists()


def test_merged_weights_are_rounded_once(run: Path) -> None:
    outsize.merge(str(run / "run"), output=str(run / "rounded"))
    outsize.merge(str(run / "run"), output=str(run / "exact"), dtype="float32")
    rounded, exact = SafetensorsSource(run / "rounded"), SafetensorsSource(run / "exact")
    for name, tensor in exact.tensors.items():
        values = torch.from_numpy(exact.read(name, 0, tensor.num_elements))
        found = torch.from_numpy(rounded.read(name, 0, tensor.num_elements))
        assert torch.equal(values.bfloat16().float(), found), name
    assert json.loads((run / "rounded" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_interrupted_run_goes_on_to_the_same_adapters(tmp_path: Path, method: str) -> None:
    found = []
    for stop_after in (None, 2):
        folder = tmp_path / str(stop_after)
        folder.mkdir()
        asked = settings(folder, method=method, lora_dropout=0.2, evaluation_steps=2)
        if stop_after is None:
            outsize.train(**asked)
        else:
            assert outsize.train(**asked, on_event=interrupt_after(stop_after)).interrupted
            assert outsize.train(resume=str(folder / "run")).resumed_from == stop_after
        outsize.export(str(folder / "run"), output=str(folder / "adapter"))
        found.append((folder / "adapter" / "adapter_model.safetensors").read_bytes())
    assert found[0] == found[1]


def test_the_base_is_written_once_and_never_again(tmp_path: Path) -> None:
    asked = settings(tmp_path, method="lora", steps=1)
    outsize.train(**asked)
    before = base_bytes(tmp_path / "run")
    assert outsize.train(resume=str(tmp_path / "run")).steps == 1
    more = settings_of_more_steps(tmp_path)
    assert base_bytes(Path(more)) == before


def settings_of_more_steps(folder: Path) -> str:
    """The same run with three steps instead of one."""
    model, data = str(folder / "model"), str(folder / "data.txt")
    outsize.train(
        model, data=data, steps=3, tokens_per_step=128, max_seq_length=64, method="lora",
        output=str(folder / "more"), memory="8GiB", commit_seconds=0.0, evaluation_fraction=0.2,
    )  # fmt: skip
    return str(folder / "more")


def base_bytes(run: Path) -> dict[str, bytes]:
    layout = read_layout(run)
    places = {extent.name: extent for extent in durable_extents(layout)}
    found = {}
    with (run / "state.bin").open("rb") as file:
        for region, size in layout.region_bytes.items():
            if region.startswith("base/"):
                file.seek(places[extent_name(region, 0)].offset_bytes)
                found[region] = file.read(size)
                assert extent_name(region, 1) not in places
    assert len(found) == 5
    return found


def test_kills_change_nothing(server: Server, tmp_path: Path) -> None:
    options: dict[str, object] = {"method": "dora", "lora_r": 3, "lora_dropout": 0.1}
    whole = make_folder(tmp_path / "whole")
    server.train(whole, arena_bytes=STREAMED_BYTES, **options)
    folder = make_folder(tmp_path / "killed")
    for number in range(6):
        how = ("before", "half", "after", "power")[number % 4]
        answer = server.train(folder, stop_at=17 + 9 * number, how=how, **options)
        assert answer["killed"], answer
    server.train(folder, **options)
    assert losses_in(folder) == losses_in(whole)


def test_what_cannot_be_merged_is_refused(run: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", hidden_size=32)
    deeper = write_model(tmp_path / "deeper", num_hidden_layers=4)
    adapters = str(run / "run")
    cases: list[tuple[type[OutsizeError], str, dict[str, object]]] = [
        (ModelError, "the adapters belong to another model", {"model": str(other)}),
        (ModelError, "The adapters lack model.layers.3", {"model": str(deeper)}),
        (ModelError, "a config without weights", {"model": str(other / "config.json")}),
        (RunError, "is not empty", {"output": str(other)}),
        (UsageError, "output is missing", {"output": None}),
        (UsageError, "holds no adapters", {"adapter": str(other)}),
        (BudgetError, "--memory", {"memory": "20MiB"}),
    ]
    for kind, words, changes in cases:
        asked = {"adapter": adapters, "output": str(tmp_path / "new")} | changes
        with pytest.raises(kind) as refusal:
            outsize.merge(**asked)  # type: ignore[arg-type]
        assert words in str(refusal.value)
        assert not (tmp_path / "new").exists()


def test_a_whole_run_has_nothing_to_merge(tmp_path: Path) -> None:
    outsize.train(**settings(tmp_path, steps=1))
    with pytest.raises(UsageError, match="trained the whole model and no adapters"):
        outsize.merge(str(tmp_path / "run"), output=str(tmp_path / "new"))


def test_a_disk_that_is_too_full_for_the_merge_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, data: memoryview) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("outsize.formats.stream_file.StreamFile.append", full)
    with pytest.raises(OutsizeError, match="No space left on device"):
        outsize.merge(str(run / "run"), output=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_answers_with_adapters_are_those_of_the_merged_model(run: Path) -> None:
    outsize.export(str(run / "run"), output=str(run / "to-answer"))
    outsize.merge(str(run / "run"), output=str(run / "whole"), dtype="float32")
    answers = [
        outsize.generate(str(run / name), prompt="7 times", max_new_tokens=12, temperature=0.0).text
        for name in ("run", "to-answer", "whole", "model")
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0] != answers[3]


def test_a_target_that_is_none_is_refused_before_anything_is_prepared(tmp_path: Path) -> None:
    asked = settings(tmp_path, method="lora", target_modules="q_porj")
    with pytest.raises(UsageError, match="Did you mean q_proj"):
        outsize.train(**asked)
    assert not (tmp_path / "run").exists()
