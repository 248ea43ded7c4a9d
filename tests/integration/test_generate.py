"""`outsize generate`: equal to Transformers on the same weights, whatever stays in memory."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import TEMPLATE, edit_json, train_tiny, write_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import outsize
from outsize.errors import BudgetError, FormatError, ModelError, RunError, UsageError
from outsize.formats.prepare import prepare_for_training
from outsize.infer import room
from outsize.results import GenerateResult
from outsize.runtime.events import TextGenerated
from outsize.store.lock import RunLock

PROMPT = "12 times 12 is"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    train_tiny(folder)
    write_model(folder / "plain")
    return folder


@pytest.fixture(autouse=True)
def small_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Prepare models in this process, which has the libraries already, and share the machine."""
    monkeypatch.setattr(
        "outsize.infer.model.run_isolated", lambda _, values: prepare_for_training(**values)
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generate(model: Path, prompt: str = PROMPT, **options: object) -> GenerateResult:
    settings = {"memory": "8GiB", "max_new_tokens": 20, "dtype": "float32"} | options
    return outsize.generate(str(model), prompt, **settings)


def expected_text(model: Path, prompt: str, dtype: torch.dtype, max_new_tokens: int = 20) -> str:
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, local_files_only=True)
    encoded = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    ids = plain.generate(
        **encoded, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=256
    )
    return tokenizer.decode(ids[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_greedy_text_equals_that_of_transformers(folder: Path, dtype: str) -> None:
    result = generate(folder / "plain", dtype=dtype)
    assert result.text == expected_text(folder / "plain", PROMPT, getattr(torch, dtype))
    assert (result.chat, result.num_prompt_tokens) == (False, len(PROMPT))
    assert (result.num_new_tokens, result.stopped_by) == (20, "max_new_tokens")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_answers_as_its_export_does(folder: Path, tmp_path: Path, dtype: str) -> None:
    outsize.export(str(folder / "run"), output=str(tmp_path), dtype=dtype)
    result = generate(folder / "run", chat=False, dtype=dtype)
    assert result.text == expected_text(tmp_path, PROMPT, getattr(torch, dtype))
    assert result.text != generate(folder / "model", chat=False, dtype=dtype).text
    RunLock(folder / "run").release()


def test_weights_that_pass_through_give_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = [generate(folder / name, chat=False) for name in ("plain", "run")]
    monkeypatch.setattr(room, "choose_resident", lambda sizes, room_bytes: ())
    monkeypatch.setattr("outsize.infer.weights.CHUNK_ELEMENTS", 1000)
    streamed = [generate(folder / name, chat=False) for name in ("plain", "run")]
    assert [r.text for r in roomy] == [r.text for r in streamed]


def test_the_command_line_shows_the_answer_and_ends_with_json(folder: Path) -> None:
    command = [sys.executable, "-m", "outsize", "generate", str(folder / "plain"), "--prompt"]
    options = ["--max-new-tokens", "5", "--dtype", "float32", "--threads", "1"]
    done = subprocess.run([*command, PROMPT, *options], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["text"] == generate(folder / "plain", max_new_tokens=5).text
    assert result["text"] in done.stderr
    assert result["measured_peak_bytes"]["host"] <= result["budget_bytes"]["host"]


def test_a_template_makes_a_chat(folder: Path) -> None:
    chat = generate(folder / "run")
    assert (chat.chat, chat.num_prompt_tokens) == (True, len(PROMPT) + 2)
    assert "content" in TEMPLATE
    assert chat.text == generate(folder / "run", f"<{PROMPT}>", chat=False).text
    with pytest.raises(UsageError, match="plain has no chat template; leave --chat out"):
        generate(folder / "plain", chat=True)


def test_the_seed_decides_what_is_sampled(folder: Path) -> None:
    first, again, other = (
        generate(folder / "run", temperature=1.5, top_p=0.9, top_k=50, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first.text == again.text != other.text


def test_the_pieces_that_are_shown_are_the_text(folder: Path) -> None:
    events: list[object] = []
    result = generate(folder / "run", temperature=2.0, on_event=events.append)
    pieces = [event.text for event in events if isinstance(event, TextGenerated)]
    assert "".join(pieces) == result.text


def test_the_model_ends_its_answer(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder / "run", tmp_path / "run")
    text = generate(copy).text
    tokenizer = AutoTokenizer.from_pretrained(copy / "model", local_files_only=True)
    stop = tokenizer(text[3])["input_ids"][0]
    edit_json(copy / "model" / "generation_config.json", eos_token_id=[299, stop])
    ended = generate(copy)
    assert ended.text == text[: text.index(text[3])]
    assert (ended.stopped_by, ended.num_new_tokens) == ("end", len(ended.text))


def test_answers_that_are_too_long_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"made for 128 tokens; the prompt has 14 .*tokens 114\."):
        generate(folder / "plain", max_new_tokens=115)
    assert generate(folder / "plain", max_new_tokens=114).num_new_tokens <= 114
    with pytest.raises(UsageError, match="Shorten the prompt"):
        generate(folder / "plain", "x" * 128, max_new_tokens=1)


def test_hostile_requests_are_refused_in_words(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="prompt must be text that is not empty"):
        generate(folder / "plain", "")
    with pytest.raises(ModelError, match="Unknown model 'nothing'"):
        generate(Path("nothing"))
    shutil.copy(folder / "plain" / "config.json", tmp_path)
    with pytest.raises(ModelError, match="has a config but no weights, so it cannot generate"):
        generate(tmp_path)


def test_a_model_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / "plain" / name, tmp_path)
    with pytest.raises(ModelError, match="has no tokenizer, so it cannot read a prompt"):
        generate(tmp_path)


def test_weights_that_do_not_fit_the_config_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder / "plain", tmp_path / "model")
    edit_json(copy / "config.json", intermediate_size=97)
    with pytest.raises(FormatError, match=r"mlp.gate_proj.weight has shape \(96, 64\)"):
        generate(copy)


def test_weights_that_are_no_numbers_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder / "plain", tmp_path / "model")
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"gives no numbers \(NaN\); its weights are damaged"):
        generate(copy)


def test_a_run_in_use_is_refused(folder: Path) -> None:
    with (
        RunLock(folder / "run"),
        pytest.raises(RunError, match=f"{folder / 'run'} is in use by process"),
    ):
        generate(folder / "run")


def test_too_small_a_budget_is_refused_with_what_it_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "resident_bytes", lambda: 2**29)
    with pytest.raises(BudgetError) as error:
        generate(folder / "run", memory="401MiB")
    assert str(error.value).startswith(f"Generating with {folder / 'run'} needs ")
    roles = [c.role for c in error.value.contributors]
    assert roles[:2] == ["interpreter and libraries", "largest layer"]
    assert error.value.remedies[0].change.startswith("--memory ")
