"""Once the layers were measured, a plan from headers says what a dry run says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import outsize

SCRIPT = """
import json, sys
from outsize import api
from outsize.cli.process import prepare_process
from outsize.fields import build
from outsize.runtime.events import ignore
from outsize.train.options import PlanOptions, TrainOptions

prepare_process()
settings = json.loads(sys.argv[1])
roomy = api.plan(build(PlanOptions, settings), ignore)
settings["memory"] = roomy.everything_bytes - 120 * 2**20
found = [api.plan(build(PlanOptions, settings), ignore)]
found.append(api.dry_run(build(TrainOptions, settings), ignore))
found.append(api.plan(build(PlanOptions, settings), ignore))
print(json.dumps([one.to_json() | {"plan": one.plan} for one in found]))
"""
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40_000,
    "tie_word_embeddings": True,
    "max_position_embeddings": 128,
}
SAME = (
    "plan", "micro_batch_size", "num_micro_batches", "span_elements", "activations",
    "everything_bytes", "host_bytes", "layers_from", "prefetch_bytes",
    "predicted_step_s", "predicted_compute_s", "predicted_exposed_io_s", "predicted_bytes_read",
    "predicted_bytes_written", "limited_by", "commits_every_step",
)  # fmt: skip


def write_tokenizer(folder: Path) -> None:
    """Write one whose tokens are bytes, without a library that takes seconds to import."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary | {"<end>": 256}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A plan before anything was measured, a dry run, and a plan after it, that has to stream."""
    folder = tmp_path_factory.mktemp("equals")
    (folder / "model" / "config.json").parent.mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(CONFIG))
    write_tokenizer(folder / "model")
    (folder / "data.txt").write_text("\n".join(f"{i} times {i} is {i * i}." for i in range(400)))
    settings = {
        "model": str(folder / "model"),
        "data": str(folder / "data.txt"),
        "steps": 5,
        "tokens_per_step": 128,
        "max_seq_length": 64,
        "memory": "2GiB",
        "threads": 1,
        "output": str(folder / "run"),
        "dry_run": True,
    }
    environment = os.environ | {"PYTHONPATH": str(Path(outsize.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(settings)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (folder / "run").exists()
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_a_plan_after_a_dry_run_is_the_same(answers: list[dict[str, Any]]) -> None:
    _, dry, after = answers
    assert {key: after[key] for key in SAME} == {key: dry[key] for key in SAME}
    assert after["predicted_peak_bytes"]["host"] == dry["predicted_peak_bytes"]["host"]
    assert after["total"] == dry["total"]
    assert after["predicted_bytes_read"] > 0
    assert after["predicted_bytes_written"] > 0
    assert after["layers_from"].startswith("measured on the layers ")


def test_before_that_it_says_that_it_was_worked_out(answers: list[dict[str, Any]]) -> None:
    before, dry, _ = answers
    assert before["layers_from"] == "worked out from the machine's rates"
    for key in ("num_elements", "micro_batch_size", "span_elements", "tokens_per_step"):
        assert before[key] == dry[key]
    state = "state, two copies"
    assert before["disk_bytes"][state] == dry["disk_bytes"][state]
    assert before["predicted_peak_bytes"]["host"] <= before["budget_bytes"]["host"]
