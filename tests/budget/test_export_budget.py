"""Export and generation in processes of their own stay inside their budgets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_model import write_model, write_text

MIB = 2**20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export-budget")
    model = write_model(folder / "model", vocab_size=98304, num_hidden_layers=12)
    data = write_text(folder / "data.txt")
    code, result = outsize(
        "train", model, "--data", data, "--steps", 1, "--tokens-per-step", 128,
        "--max-seq-length", 64, "--memory", "2GiB", "--threads", 1, "--output", folder / "run",
    )  # fmt: skip
    assert code == 0, result
    return folder / "run"


def outsize(*arguments: object) -> tuple[int, dict]:
    command = [sys.executable, "-m", "outsize", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def smallest_budget(*arguments: object) -> int:
    """Ask with too little and return, in MiB, the budget that the refusal recommends."""
    code, refused = outsize(*arguments)
    assert code == 2, refused
    change = refused["error"]["remedies"][0]["change"]
    return int(change.removeprefix("--memory ").removesuffix("MiB"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_export_stays_inside_the_smallest_budget(run: Path, tmp_path: Path, dtype: str) -> None:
    command = ("export", run, "--output", tmp_path / "out", "--dtype", dtype, "--memory")
    smallest = smallest_budget(*command, "20MiB")
    code, result = outsize(*command, f"{smallest}MiB")
    assert code == 0, result
    assert result["num_elements"] > 70e6
    measured = result["measured_peak_bytes"]["host"]
    assert 0.5 * smallest * MIB < measured <= smallest * MIB
    assert smallest < 120


def test_generation_stays_inside_any_budget(run: Path) -> None:
    prompt = "Line 7 says that " * 20
    command = (
        "generate", run, "--prompt", prompt, "--max-new-tokens", 12, "--threads", 1, "--memory"
    )  # fmt: skip
    smallest = smallest_budget(*command, "410MiB")
    texts = []
    for budget in (smallest, smallest + 33, 2048):
        code, result = outsize(*command, f"{budget}MiB")
        assert code == 0, result
        assert result["measured_peak_bytes"]["host"] <= budget * MIB
        texts.append(result["text"])
    assert len(set(texts)) == 1
