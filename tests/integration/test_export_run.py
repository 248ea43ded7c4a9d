"""`outsize export`: it writes the run's masters, and a refusal leaves nothing behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import edit_json, train_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

import outsize
from outsize.errors import BudgetError, OutsizeError, RunError, StorageError
from outsize.models.registry import plain_model
from outsize.runtime.events import PhaseAdvanced, PhaseFinished, PhaseStarted
from outsize.store.lock import RunLock
from outsize.train.committed import CommittedWeights
from outsize.train.export import round_to_bfloat16

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    train_tiny(folder)
    return folder / "run"


def masters(run: Path) -> dict[str, torch.Tensor]:
    weights = CommittedWeights(run, print)
    try:
        return {
            name: torch.from_numpy(weights.read(name, 0, t.num_elements)).view(t.shape)
            for name, t in weights.tensors.items()
        }
    finally:
        weights.close()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_exported_model_is_a_plain_one_filled_from_the_masters(
    run: Path, tmp_path: Path, dtype: str
) -> None:
    result = outsize.export(str(run), output=str(tmp_path / "out"), dtype=dtype)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True)
    assert loaded.dtype == DTYPES[dtype]
    plain, values = plain_model(run / "model", DTYPES[dtype]), masters(run)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(values[name])
        ids = torch.arange(40)[None]
        assert torch.equal(loaded.eval()(ids).logits, plain(ids).logits)
    assert result.num_elements == sum(v.numel() for v in values.values())
    assert (result.step, result.num_files, result.dtype) == (2, 1, dtype)


def test_training_has_changed_what_is_exported(run: Path) -> None:
    before = AutoModelForCausalLM.from_pretrained(run.parent / "model", local_files_only=True)
    values = masters(run)
    assert not any(torch.equal(p, values[n]) for n, p in before.named_parameters())


def test_the_folder_has_what_belongs_to_a_model(run: Path, tmp_path: Path) -> None:
    result = outsize.export(str(run), output=str(tmp_path), max_shard_size=100_000)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors.index.json"} < names
    config = json.loads((tmp_path / "config.json").read_bytes())
    assert (config["dtype"], config["architectures"]) == ("bfloat16", ["LlamaForCausalLM"])
    index = json.loads((tmp_path / "model.safetensors.index.json").read_bytes())
    assert "lm_head.weight" not in index["weight_map"]
    assert result.num_files == len(set(index["weight_map"].values())) > 1
    assert result.bytes_written == sum(path.stat().st_size for path in tmp_path.iterdir())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    original = AutoTokenizer.from_pretrained(run / "model", local_files_only=True)
    assert tokenizer("a text")["input_ids"] == original("a text")["input_ids"]
    assert tokenizer.chat_template == original.chat_template is not None


def test_progress_counts_every_parameter(run: Path, tmp_path: Path) -> None:
    events: list[object] = []
    result = outsize.export(str(run), output=str(tmp_path / "out"), on_event=events.append)
    started = next(e for e in events if isinstance(e, PhaseStarted))
    done = [e.done for e in events if isinstance(e, PhaseAdvanced)]
    assert (started.phase, started.total, started.unit) == (
        "export",
        result.num_elements,
        "parameters",
    )
    assert done == sorted(done)
    assert done[-1] == result.num_elements
    assert isinstance(events[-1], PhaseFinished)


def test_it_needs_no_torch(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys, outsize; outsize.export(sys.argv[1], output=sys.argv[2]); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, run, tmp_path / "out"], check=False)
    assert done.returncode == 0


def test_the_default_output_is_inside_the_run(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    assert outsize.export(str(copy)).output == str(copy / "export")
    assert (copy / "export" / "model.safetensors").is_file()


def refused(run: Path, output: Path, kind: type[OutsizeError], **options: object) -> str:
    """Return the message of an export that must be refused and must leave nothing behind."""
    before = sorted(output.rglob("*")) if output.exists() else None
    with pytest.raises(kind) as error:
        outsize.export(str(run), output=str(output), **options)
    assert (sorted(output.rglob("*")) if output.exists() else None) == before
    return str(error.value)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, tmp_path / "out", RunError)
    assert message == (
        f"{tmp_path} holds no run (there is no run.json in it); "
        "give the folder that a run was started with as --output."
    )


def test_a_run_that_has_committed_nothing_is_refused(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "journal.bin").unlink()
    message = refused(copy, tmp_path / "out", RunError)
    assert message.startswith(f"The run in {copy} has committed nothing yet")
    assert f"outsize train --resume {copy}" in message


def test_a_run_in_use_is_refused_with_the_process(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from outsize.store.lock import RunLock\n"
        "lock = RunLock(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, run], **pipes) as holder:
        holder.stdout.readline()
        message = refused(run, tmp_path / "out", RunError)
        holder.stdin.close()
    assert message.startswith(f"{run} is in use by process {holder.pid}.")


def test_the_lock_is_let_go_whatever_happens(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    refused(run, tmp_path / "out", RunError)
    outsize.export(str(run), output=str(tmp_path / "other"))
    RunLock(run).release()
    assert (tmp_path / "other" / "config.json").is_file()


def test_an_output_that_is_not_empty_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert refused(run, tmp_path, RunError) == (
        f"{tmp_path} is not empty; choose another folder with --output."
    )
    assert refused(run, tmp_path / "mine", RunError) == (
        f"{tmp_path / 'mine'} is a file; choose another folder with --output."
    )


def test_damaged_state_is_refused_by_the_region(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    with (copy / "state.bin").open("r+b") as file:
        for page in range(0, (copy / "state.bin").stat().st_size, 4096):
            file.seek(page + 8)
            file.write(b"?")
    message = refused(copy, tmp_path / "out", StorageError)
    assert message.startswith("The bytes of 'state/0/0@")
    assert str(copy / "state.bin") in message


def test_a_state_that_is_cut_off_is_refused(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    with (copy / "state.bin").open("r+b") as file:
        file.truncate(4096)
    assert str(copy / "state.bin") in refused(copy, tmp_path / "out", StorageError)


@pytest.mark.parametrize("layout", [None, {}, {"model": {}}, 7])
def test_a_run_without_a_layout_is_refused(run: Path, tmp_path: Path, layout: object) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    edit_json(copy / "run.json", layout=layout)
    message = refused(copy, tmp_path / "out", RunError)
    assert "run.json does not say where the weights lie" in message


def test_too_small_a_budget_is_refused_with_one_that_works(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError) as error:
        outsize.export(str(run), output=str(tmp_path / "out"), memory="10MiB")
    assert str(error.value).startswith(f"Exporting {run} needs ")
    assert not (tmp_path / "out").exists()
    remedy = error.value.remedies[0].change.removeprefix("--memory ")
    assert outsize.export(str(run), output=str(tmp_path / "out"), memory=remedy).step == 2


def test_a_full_disk_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outsize.formats import stream_file

    class FullAfterTokenizer(stream_file.StreamFile):
        def append(self, data: memoryview) -> None:
            if self.path.suffix == ".safetensors":
                raise OSError(28, "No space left on device")
            super().append(data)

    monkeypatch.setattr("outsize.formats.export.StreamFile", FullAfterTokenizer)
    message = refused(run, tmp_path / "out", StorageError)
    assert "No space left on device. What was written of it has been removed." in message
    monkeypatch.undo()
    monkeypatch.setattr("outsize.train.new_folder.StreamFile", _FullAtOnce)
    message = refused(run, tmp_path / "out", StorageError)
    assert message.startswith(f"Writing to {tmp_path / 'out'} failed: No space left on device.")


class _FullAtOnce:
    def __init__(self, path: Path) -> None:
        raise OSError(28, "No space left on device")


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40))
def test_rounding_equals_that_of_torch(bits: list[int]) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    expected = torch.from_numpy(values).to(torch.bfloat16)
    found = torch.from_numpy(round_to_bfloat16(values).view(np.int16)).view(torch.bfloat16)
    assert torch.equal(found.isnan(), expected.isnan())
    same = found.view(torch.int16) == expected.view(torch.int16)
    assert bool((same | expected.isnan()).all())


def test_rounding_ties_go_to_even() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x7F7FFFFF, 0xFF800000, 0x80000000], np.uint32)
    rounded = round_to_bfloat16(bits.view(np.float32))
    assert rounded.tolist() == [0x3F80, 0x3F82, 0x7F80, 0xFF80, 0x8000]
