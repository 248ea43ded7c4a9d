"""Does each budget hold? The same run under several hard limits, in turn.

    python bench/budgets.py smollm2-135m [--budgets 768MiB 1GiB 4GiB] [--steps 20]

Trains on the Python language reference inside a memory control group of each budget's size, checks
measured <= predicted <= budget and that the losses are the same, and writes a table and each run's
JSON to bench/results. Needs root for the control groups.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from outsize.quantities import format_bytes

HERE = Path(__file__).parent


def main() -> None:
    options = read_options()
    results: dict[str, dict] = {}
    with TemporaryDirectory(dir=options.work) as work:
        for budget in options.budgets:
            print(f"-- {budget}", file=sys.stderr)
            results[budget] = run(options, budget, Path(work) / budget)
    for budget, result in results.items():
        check(budget, result)
    losses = {(r["loss_first"], r["loss_last"]) for r in results.values()}
    assert len(losses) == 1, f"budgets changed the result: {losses}"
    path = HERE / "results" / f"budgets-{options.model}.md"
    path.write_text(report(options, results))
    print(path.read_text())


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--budgets", nargs="+", default=["768MiB", "1GiB", "4GiB"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--work", default=None)
    return parser.parse_args()


def command(options: argparse.Namespace, budget: str) -> list[str]:
    return [
        "outsize", "train", options.model, "--method", "full", "--data", "builtin:python-reference",
        "--memory", budget, "--steps", str(options.steps),
    ]  # fmt: skip


def run(options: argparse.Namespace, budget: str, output: Path) -> dict:
    train = [sys.executable, "-m", *command(options, budget), "--output", str(output)]
    limited = [sys.executable, str(HERE / "in_cgroup.py"), budget, *train]
    done = subprocess.run(limited, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def check(budget: str, result: dict) -> None:
    for tier in ("host", "disk"):
        measured, predicted, limit = (
            result[key][tier]
            for key in ("measured_peak_bytes", "predicted_peak_bytes", "budget_bytes")
        )
        assert measured <= predicted <= limit, (budget, tier)
    host = result["predicted_peak_bytes"]["host"] / result["measured_peak_bytes"]["host"]
    assert host <= 1.1, (budget, host)


def report(options: argparse.Namespace, results: dict[str, dict]) -> str:
    lines = [
        f"# {options.model} in several budgets, {datetime.date.today()}",
        "",
        f"`python bench/budgets.py {' '.join(sys.argv[1:])}`",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores; each run in a memory control group of its "
        "budget's size.",
        "",
        "| budget | predicted peak | measured peak | tokens/s | step predicted, measured "
        "| read, written a step (first state included) | loss |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for budget, result in results.items():
        read, written = (
            format_bytes(result[key] // result["steps"]) for key in ("bytes_read", "bytes_written")
        )
        lines.append(
            f"| {budget} | {format_bytes(result['predicted_peak_bytes']['host'])} | "
            f"{format_bytes(result['measured_peak_bytes']['host'])} | "
            f"{result['tokens_per_s']:.0f} | {result['predicted_step_s']:.1f} s, "
            f"{result['measured_step_s']:.1f} s | {read}, {written} | "
            f"{result['loss_first']:.3f} to {result['loss_last']:.3f} |"
        )
    for budget, result in results.items():
        shown = {key: value for key, value in result.items() if key != "output"}
        text = json.dumps(shown, indent=1)
        lines += ["", f"`{' '.join(command(options, budget))}`", "", "```json", text, "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
