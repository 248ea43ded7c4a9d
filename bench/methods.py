"""What does each method take, and what does it learn? One run after the other, on the same rows.

    python bench/methods.py smollm2-135m --memory 1GiB --steps 100 [--tokens-per-step 1024]

Each method trains inside a memory control group of the budget's size; `--in-memory` adds PEFT with
everything in memory, on the same rows with the same numbers, for LoRA and DoRA. A built-in model is
taken with its weights, other shapes of `shapes.py` with fresh ones. Writes a table to bench/results
after every run. Needs root for the control group.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

from outsize.formats.hub import BUILT_IN
from outsize.quantities import format_bytes
from shapes import SHAPES

HERE = Path(__file__).parent
METHODS = {
    "full, AdamW": ["--method", "full"],
    "full, AdamW with moments in 8 bits": ["--method", "full", "--optim", "adamw_8bit"],
    "full, Lion with moments in 8 bits": ["--method", "full", "--optim", "lion_8bit"],
    "lora": ["--method", "lora"],
    "dora": ["--method", "dora"],
    "qlora, nf4": ["--method", "qlora"],
    "qlora, int8": ["--method", "qlora", "--quantization", "int8"],
}
RATES = {"full, AdamW": 1e-4, "full, AdamW with moments in 8 bits": 1e-4,
         "full, Lion with moments in 8 bits": 2e-5}  # fmt: skip
ADAPTER_RATE = 1e-3


def main() -> None:
    options = read_options()
    rows: list[str] = []
    for name in options.methods:
        work = Path(mkdtemp(dir=options.work))
        try:
            rows.append(streamed(name, work, options))
            if options.in_memory and name in ("lora", "dora"):
                rows.append(in_memory(name, work, options))
        finally:
            shutil.rmtree(work)
        path = HERE / "results" / f"methods-{options.model}-{options.memory}.md"
        path.write_text(report(rows, options))
    print(path.read_text())


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tokens-per-step", type=int, default=1024)
    parser.add_argument("--seq-length", type=int, default=1024)
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS])
    parser.add_argument("--in-memory", action="store_true")
    parser.add_argument("--work", default=None, help="folder for the runs")
    return parser.parse_args()


def arguments(name: str, work: Path, options: argparse.Namespace) -> list[str]:
    model = options.model
    if model not in BUILT_IN:
        model = str(work / "config.json")
        Path(model).write_text(json.dumps(SHAPES[options.model]))
    return [
        "train", model, "--tokenizer", "smollm2-135m", "--data", "builtin:python-reference",
        "--memory", options.memory, "--steps", str(options.steps), "--tokens-per-step",
        str(options.tokens_per_step), "--max-seq-length", str(options.seq_length),
        "--learning-rate", str(RATES.get(name, ADAPTER_RATE)), *METHODS[name],
    ]  # fmt: skip


def streamed(name: str, work: Path, options: argparse.Namespace) -> str:
    command = [sys.executable, "-m", "outsize", *arguments(name, work, options)]
    limited = [sys.executable, str(HERE / "in_cgroup.py"), options.memory, *command]
    done = subprocess.run(
        [*limited, "--output", str(work / "run")], stdout=subprocess.PIPE, check=True, text=True
    )
    result = json.loads(done.stdout[done.stdout.index("{") :])
    num_steps = result["steps"]
    return (
        f"| {name} | {format_bytes(result['predicted_peak_bytes']['host'])} | "
        f"{format_bytes(result['measured_peak_bytes']['host'])} | "
        f"{result['predicted_step_s']:.2f} s | {result['measured_step_s']:.2f} s | "
        f"{format_bytes(result['bytes_read'] // num_steps)} | "
        f"{format_bytes(result['bytes_written'] // num_steps)} | {mean_loss(work / 'run')} |"
    )


def mean_loss(run: Path) -> str:
    """The mean of the last ten steps' losses: single steps see a thousand tokens."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    return f"{sum(losses[-10:]) / len(losses[-10:]):.4f}"


def in_memory(name: str, work: Path, options: argparse.Namespace) -> str:
    """Train PEFT's adapters on the run's rows with everything in memory."""
    command = [sys.executable, str(HERE / "peft_run.py"), str(work / "run"), name]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    losses = found["losses"][-10:]
    return (
        f"| {name}, PEFT in memory | | {format_bytes(found['peak_bytes'])} | | "
        f"{found['step_s']:.2f} s | | | {sum(losses) / len(losses):.4f} |"
    )


def report(rows: list[str], options: argparse.Namespace) -> str:
    lines = [
        f"# Methods on {options.model}, {datetime.date.today()}",
        "",
        f"`python bench/methods.py {' '.join(sys.argv[1:])}`",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores; {options.steps} steps of "
        f"{options.tokens_per_step} tokens, each run in a memory control group of "
        f"{options.memory}. Bytes include the first state. The loss is the mean of the last ten "
        "steps.",
        "",
        "| method | peak predicted | measured | step predicted | measured | read a step "
        "| written a step | loss |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *rows]) + "\n"


if __name__ == "__main__":
    main()
