"""What `outsize verify` is made of: cases, comparison, room, the cut model, rows and progress."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from outsize.errors import BudgetError, RunError, StorageError, UsageError
from outsize.models.registry import build, read_config
from outsize.options import VerifyOptions
from outsize.runtime.events import Event, Notice
from outsize.train.data.rows import PackedRows
from outsize.train.verify import prepare as preparing
from outsize.train.verify import verify
from outsize.train.verify.cases import make_cases, most_accumulation, training_options
from outsize.train.verify.compare import largest_difference, loss_difference, worse
from outsize.train.verify.prepare import keep_first_layers
from outsize.train.verify.progress import count_steps, step_finished
from outsize.train.verify.room import blocks_with_room, plain_bytes
from outsize.train.verify.state import StoredState
from outsize.train.verify.token_rows import write_token_rows

CONFIG = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def test_every_combination_is_a_case_and_quick_is_one_of_them() -> None:
    options = VerifyOptions(model="m")
    cases = make_cases(options)
    assert len(set(cases)) == len(cases) == 8
    assert {case.accumulation for case in cases} == {1, 4}
    (quick,) = make_cases(VerifyOptions(model="m", quick=True))
    assert quick == cases[0]
    assert (quick.dtype, quick.clip, quick.accumulation) == ("bfloat16", True, 4)


@pytest.mark.parametrize(("rows", "most"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 1), (6, 3), (8, 4)])
def test_accumulation_divides_the_rows(rows: int, most: int) -> None:
    options = VerifyOptions(model="m", tokens_per_step=32 * rows, max_seq_length=32)
    assert most_accumulation(options) == most
    for case in make_cases(options):
        choices = training_options(options, case)
        assert choices.micro_batch_size is not None
        assert choices.micro_batch_size * case.accumulation == rows
        assert (choices.max_grad_norm > 0) is case.clip


@pytest.mark.parametrize("rows", [1, 8])
def test_a_smaller_accumulation_is_told(rows: int) -> None:
    events: list[Event] = []
    options = VerifyOptions(model="m", tokens_per_step=32 * rows, max_seq_length=32)
    verify._tell_limits(options, {"num_layers": 2, "num_layers_model": 2}, events.append)
    texts = [event.text for event in events if isinstance(event, Notice)]
    expected = (
        "the 1 rows of a step cannot be dealt to 4 micro-batches; the most that is compared is 1."
    )
    assert texts == ([expected] if rows == 1 else [])


@pytest.mark.parametrize("layers", [None, 2])
def test_a_cut_model_is_told_unless_it_was_asked_for(layers: int | None) -> None:
    events: list[Event] = []
    options = VerifyOptions(model="big", layers=layers)
    verify._tell_limits(options, {"num_layers": 2, "num_layers_model": 30}, events.append)
    texts = [event.text for event in events if isinstance(event, Notice)]
    expected = (
        "plain PyTorch has room for 2 of the 30 layers of big; "
        "both sides train the model's first 2 layers."
    )
    assert texts == ([] if layers else [expected])


def test_the_largest_difference_is_exact_and_not_a_number_counts_most() -> None:
    ones = torch.ones(5)
    assert largest_difference(ones, ones.clone()) == 0
    other = ones.clone()
    other[3] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    assert largest_difference(other, ones) == 2**-23
    broken = torch.full((5,), torch.nan)
    assert math.isnan(largest_difference(broken, ones))
    assert math.isnan(largest_difference(broken, broken))
    assert math.isnan(worse(math.nan, 1.0))
    assert math.isnan(worse(1.0, math.nan))
    assert worse(1.0, 2.0) == 2.0


def test_losses_of_runs_of_different_length_differ() -> None:
    assert loss_difference([1.0, 2.0], [1.0, 2.0]) == 0
    assert loss_difference([1.0, 2.0], [1.0, 2.5]) == 0.5
    assert math.isnan(loss_difference([1.0], [1.0, 2.0]))


def test_more_memory_has_room_for_more_layers(model: Path) -> None:
    spec = build(model, torch.float32).spec
    needed = [plain_bytes(spec, count, 128, "float32") for count in range(1, 5)]
    assert needed == sorted(set(needed))
    for count, size in enumerate(needed, start=1):
        assert blocks_with_room(spec, 128, "float32", int(size / 0.9) + 1) == count
    with pytest.raises(BudgetError) as caught:
        blocks_with_room(spec, 128, "float32", needed[0] // 2)
    message = str(caught.value)
    assert "Plain PyTorch, which the comparison needs, with one layer of Gemma3ForCaus" in message
    assert "weights, gradients, masters and moments" in message


def test_a_cut_model_has_the_first_layers_of_the_whole_one(model: Path) -> None:
    whole = build(model, torch.float32).spec
    keep_first_layers(model, 3)
    cut = build(model, torch.float32).spec
    assert cut.layers[:4] == whole.layers[:4]
    assert cut.layers[4] == whole.layers[5]
    _, config = read_config(model)
    assert config.layer_types == CONFIG["layer_types"][:3]


def test_a_model_whose_config_names_its_layers_otherwise_is_cut(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_layer": 3, "n_embd": 16, "n_head": 2, "vocab_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    keep_first_layers(tmp_path, 1)
    assert len(build(tmp_path, torch.float32).spec.layers) == 3


def test_more_layers_than_there_are_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared(name: str, folder: Path) -> dict[str, object]:
        (folder / "config.json").write_text(json.dumps(CONFIG))
        return {}

    monkeypatch.setattr(preparing, "prepare_model", prepared)
    with pytest.raises(UsageError, match=r"layers must be at most 4, the decoder layers of m; got"):
        preparing.prepare(
            model="m",
            folder=str(tmp_path),
            layers=5,
            dtypes=["float32"],
            steps=1,
            tokens_per_step=32,
            max_seq_length=32,
            seed=0,
            free_bytes=2**40,
        )


def test_token_rows_have_documents_and_places_without_loss(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_token_rows(tmp_path / name, num_rows=20, seq_length=48, vocab_size=50, seed=7)
    with PackedRows(tmp_path / "one") as rows, PackedRows(tmp_path / "two") as again:
        batch, same = rows.read(range(20)), again.read(range(20))
    assert np.array_equal(batch.input_ids, same.input_ids)
    assert batch.input_ids.max() < 50
    assert (batch.position_ids[:, 1:] == 0).sum() > 10
    assert 0.02 < (batch.labels == -100).mean() < 0.3
    inside = (batch.position_ids[:, 1:] > 0) & (batch.labels[:, :-1] != -100)
    assert np.array_equal(batch.labels[:, :-1][inside], batch.input_ids[:, 1:][inside])


def test_every_step_of_a_child_is_counted(tmp_path: Path) -> None:
    steps: list[int] = []
    with count_steps(tmp_path / "pipe", lambda: steps.append(1)):
        for _ in range(5):
            step_finished(tmp_path / "pipe")
    assert len(steps) == 5
    assert not (tmp_path / "pipe").exists()


def test_the_work_folder_is_removed_and_what_lay_beside_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with verify._work_folder(str(tmp_path)) as folder:
        (folder / "state.bin").touch()
        assert folder.parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with verify._work_folder(str(tmp_path / "new" / "place")):
        pass
    assert not (tmp_path / "new" / "place").exists()


def test_a_work_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match=r"cannot be made in .*file: .*\n  Name another place"),
        verify._work_folder(str(tmp_path / "file")),
    ):
        pass


def test_the_state_of_a_folder_without_a_run_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        StoredState(tmp_path)
