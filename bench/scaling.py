"""Does the speed hold as models and steps grow? Seconds a token and parameter, one run a case.

    python bench/scaling.py [--work DIR] [--cases smollm2-135m:512:1GiB ...]

A case is a shape, the tokens of a step and the budget. Each trains fresh weights of its shape for
a few steps inside a memory control group of its budget's size, one after the other, and is put
beside two bounds of the plan that it ran: its arithmetic alone, and the transfers alone, whichever
takes longer. The table is written to bench/results after each case. Needs root.
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

from outsize.formats.model_spec import know_model
from outsize.quantities import format_bytes
from shapes import SHAPES
from train_command import train_arguments

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "scaling.md"
CASES = [
    "smollm2-135m:512:1GiB", "smollm2-135m:2048:1GiB", "smollm2-135m:4096:1GiB",
    "smollm2-135m:16384:1GiB", "smollm2-360m:8192:1.5GiB", "qwen3-0.6b:8192:2GiB",
    "llama-1.1b:512:2GiB", "llama-1.1b:2048:2GiB", "llama-1.1b:8192:2GiB",
    "smollm2-1.7b:8192:3GiB",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--train", default="", help="more options of `outsize train`")
    parser.add_argument("--work", default=None, help="folder for the runs")
    options = parser.parse_args()
    rows: list[str] = []
    for case in options.cases:
        work = Path(mkdtemp(dir=options.work))
        try:
            rows.append(row(case, work, options))
        finally:
            shutil.rmtree(work)
        RESULTS.write_text(report(rows, options))
    print(RESULTS.read_text())


def row(case: str, work: Path, options: argparse.Namespace) -> str:
    """Train one case and return its line of the table."""
    shape, tokens, memory = case.split(":")
    config = work / "config.json"
    config.write_text(json.dumps(SHAPES[shape]))
    run = argparse.Namespace(
        memory=memory, tokens_per_step=int(tokens), seq_length=min(1024, int(tokens)),
        train=options.train,
    )  # fmt: skip
    arguments = train_arguments(run, config, work / "run", steps=options.steps, commit_seconds=3600)
    outsize = [sys.executable, "-m", "outsize"]
    limited = [sys.executable, str(HERE / "in_cgroup.py"), memory, *outsize, *arguments]
    result = last_line(limited)
    shutil.rmtree(work / "run")  # the plan asks for its room on disk
    plan = last_line([*outsize, "plan", *arguments[: arguments.index("--output")], "--json"])
    num_parameters = know_model(str(config)).spec.num_elements
    step_s = result["measured_step_s"]
    transfers_s = max(plan["predicted_read_s"], plan["predicted_write_s"])
    bound_s = max(plan["predicted_compute_s"], transfers_s)
    return (
        f"| {shape}, {num_parameters / 1e6:.0f} M | {tokens} | {memory} | "
        f"{format_bytes(result['measured_peak_bytes']['host'])} | {step_s:.1f} s | "
        f"{result['predicted_step_s']:.1f} s | {plan['predicted_compute_s']:.1f} s | "
        f"{transfers_s:.1f} s | {bound_s / step_s:.2f} | "
        f"{step_s / int(tokens) / num_parameters * 1e12:.1f} |"
    )


def last_line(command: list[str]) -> dict:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout[done.stdout.index("{") :])


def report(rows: list[str], options: argparse.Namespace) -> str:
    lines = [
        f"# Speed as models and steps grow, {datetime.date.today()}",
        "",
        f"`python bench/scaling.py --steps {options.steps} --cases {' '.join(options.cases)}`",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores; each run of {options.steps} steps in a "
        "memory control group of its budget's size. Arithmetic and transfers: what the plan says "
        "that either takes alone; the longer one is the bound.",
        "",
        "| shape | tokens a step | budget | peak | step | predicted | arithmetic | transfers "
        "| bound / step | ps a token and parameter |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *rows]) + "\n"


if __name__ == "__main__":
    main()
