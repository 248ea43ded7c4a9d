"""Whole runs in a process of their own: measured <= predicted <= budget, and predicted is tight."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_model import CONFIG, write_model, write_text, write_tokenizer

MIB = 2**20


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("budget")
    return write_model(folder / "model"), write_text(folder / "data.txt")


@pytest.fixture(scope="module")
def tight_bytes(files, tmp_path_factory) -> int:
    return least_budget_bytes(files, tmp_path_factory.mktemp("tight") / "run")


def least_budget_bytes(files: tuple[Path, Path], output: Path, length: int = 256) -> int:
    """The smallest budget that a refusal recommends.

    Libraries take more or less memory with what the page cache holds of them, so no fixed number
    is tight everywhere.
    """
    model, data = files
    code, refused = outsize(
        "train", model, "--data", data, "--max-seq-length", length,
        "--tokens-per-step", 4 * length, "--steps", 1, "--memory", "420MiB", "--output", output,
        "--method", "full",
    )  # fmt: skip
    assert code == 2
    return int(refused["error"]["needed_bytes"]) + 24 * MIB


def outsize(*arguments: object) -> tuple[int, dict]:
    command = [sys.executable, "-m", "outsize", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def train(files: tuple[Path, Path], output: Path, *arguments: object) -> dict:
    model, data = files
    code, result = outsize(
        "train", model, "--data", data, "--output", output, "--max-seq-length", 256,
        "--tokens-per-step", 1024, "--steps", 3, "--method", "full", *arguments,
    )  # fmt: skip
    assert code == 0, result
    return result


def check_budget(result: dict) -> None:
    for tier in ("host", "disk"):
        measured = result["measured_peak_bytes"][tier]
        predicted = result["predicted_peak_bytes"][tier]
        assert 0 < measured <= predicted <= result["budget_bytes"][tier], tier
        # What is promised of every run; nine of ten are within 1.1, see bench/prediction.py.
        assert predicted <= 1.2 * measured, tier


@pytest.mark.parametrize(
    ("more_bytes", "dtype"), [(0, "bfloat16"), (160 * MIB, "float32"), (2048 * MIB, "bfloat16")]
)
def test_a_run_stays_inside_its_prediction(files, tmp_path, tight_bytes, more_bytes, dtype):
    memory = tight_bytes + more_bytes
    result = train(files, tmp_path / "run", "--memory", memory, "--dtype", dtype)
    check_budget(result)


@pytest.mark.parametrize("method", ["dora", "qlora"])
def test_adapters_stay_inside_their_prediction(files, tmp_path, tight_bytes, method):
    memory = tight_bytes + 192 * MIB  # what adapters compute in fp32
    result = train(files, tmp_path / "run", "--memory", memory, "--method", method)
    check_budget(result)
    assert result["method"] == method


def test_moments_in_8_bits_stay_inside_their_prediction(files, tmp_path, tight_bytes):
    memory = tight_bytes + 24 * MIB
    result = train(files, tmp_path / "run", "--memory", memory, "--optim", "adamw_8bit")
    check_budget(result)


def test_a_larger_micro_batch_is_not_measured_where_it_may_not_fit(files, tmp_path):
    """With 9 heads two threads would share two rows more evenly than one; the smallest budget has
    no room for them.
    """
    model = write_model(
        tmp_path / "model", hidden_size=576, num_attention_heads=9, num_key_value_heads=3
    )
    odd = model, files[1]
    memory = least_budget_bytes(odd, tmp_path / "refused", 1024)
    check_budget(train(odd, tmp_path / "run", "--max-seq-length", 1024,
                       "--tokens-per-step", 4096, "--memory", memory))  # fmt: skip


def test_fresh_weights_are_drawn_inside_the_prediction(files, tmp_path):
    wide = tmp_path / "wide"
    wide.mkdir()
    config = CONFIG | {"vocab_size": 2**17, "tie_word_embeddings": False}
    (wide / "config.json").write_text(json.dumps(config))
    write_tokenizer(wide)
    fresh = wide, files[1]
    memory = least_budget_bytes(fresh, tmp_path / "refused")
    check_budget(train(fresh, tmp_path / "run", "--memory", memory))


def test_more_memory_moves_fewer_bytes(files, tmp_path, tight_bytes):
    # Another micro-batch is another order of the sums; with the same one every bit is the same.
    rows = ("--micro-batch-size", 1)
    tight = train(files, tmp_path / "tight", "--memory", tight_bytes, *rows)
    roomy = train(files, tmp_path / "roomy", "--memory", "2GiB", "--commit-seconds", 1000, *rows)
    assert roomy["bytes_read"] < 0.5 * tight["bytes_read"]
    assert (tight["bytes_read"], tight["bytes_written"]) == (
        tight["predicted_bytes_read"],
        tight["predicted_bytes_written"],
    )
    losses = [
        [
            json.loads(line)["loss"]
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("tight", "roomy")
    ]
    assert losses[0] == losses[1]


def test_a_resumed_run_stays_inside_too(files, tmp_path, tight_bytes):
    # A resumed run keeps its micro-batch, and only the smallest one fits the tight budget.
    more_bytes = tight_bytes + 128 * MIB
    train(files, tmp_path / "run", "--memory", more_bytes, "--micro-batch-size", 1)
    code, result = outsize("train", "--resume", tmp_path / "run", "--memory", tight_bytes)
    assert code == 0
    assert result["resumed_from"] == 3
    assert result["measured_peak_bytes"]["host"] <= result["predicted_peak_bytes"]["host"]
    code, result = outsize("train", "--resume", tmp_path / "run")
    assert code == 0
    assert result["budget_bytes"]["host"] == tight_bytes + 128 * MIB  # as it was started with


def test_a_dry_run_predicts_what_the_run_takes(files, tmp_path):
    model, data = files
    code, planned = outsize(
        "train", model, "--data", data, "--memory", "1GiB", "--dry-run",
        "--max-seq-length", 256, "--tokens-per-step", 1024, "--steps", 3,
    )  # fmt: skip
    assert code == 0
    measured = train(files, tmp_path / "run", "--memory", "1GiB")["measured_peak_bytes"]["host"]
    predicted = planned["predicted_peak_bytes"]["host"]
    assert measured <= predicted <= 1.2 * measured


def test_a_budget_that_is_too_small_is_refused_and_the_remedy_works(files, tmp_path):
    model, data = files
    base = [
        "train", model, "--data", data, "--max-seq-length", 256, "--tokens-per-step", 1024,
        "--steps", 1, "--output", tmp_path / "run",
    ]  # fmt: skip
    code, refused = outsize(*base, "--memory", "420MiB")
    assert code == 2
    error = refused["error"]
    assert (error["kind"], error["tier"]) == ("budget", "host")
    assert error["needed_bytes"] > error["budget_bytes"] == 420 * MIB
    assert error["contributors"]
    assert not (tmp_path / "run").exists()
    for remedy in error["remedies"]:
        option, value = remedy["change"].split()
        more = [option, value] if option == "--memory" else [option, value, "--memory", "420MiB"]
        code, result = outsize(*base, *more, "--dry-run")
        assert code == 0, (remedy, result)
        assert result["predicted_peak_bytes"]["host"] <= result["budget_bytes"]["host"]


def test_a_disk_budget_that_is_too_small_is_refused_and_the_remedy_works(files, tmp_path):
    model, data = files
    base = [
        "train", model, "--data", data, "--max-seq-length", 256, "--tokens-per-step", 1024,
        "--steps", 1, "--memory", "1GiB", "--output", tmp_path / "run", "--method", "full",
    ]  # fmt: skip
    code, refused = outsize(*base, "--disk", "100MiB")
    assert code == 2
    error = refused["error"]
    assert (error["kind"], error["tier"]) == ("budget", "disk")
    assert not (tmp_path / "run").exists()
    code, result = outsize(*base, *error["remedies"][0]["change"].split())
    assert code == 0
    assert result["measured_peak_bytes"]["disk"] <= result["budget_bytes"]["disk"]
