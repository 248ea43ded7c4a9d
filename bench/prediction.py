"""Can the numbers be trusted? Predicted beside measured, on the real executor, in a grid of cases.

    python bench/prediction.py [--work DIR] [--only TEXT]

Every case is its own process: random weights of a model's shape, a sequence length, a micro-batch,
a dtype, what becomes of activations, and a host budget between the smallest that the planner names
and everything in memory. Then, for a few shapes: the plan that the planner chooses against every
other plan by force, and the smallest budget against five percent less. Results go to a JSON-lines
file in DIR as they come, so that an interrupted bench goes on; the report goes to bench/results.
Run nothing else meanwhile.
"""

import argparse
import datetime
import json
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from prediction_report import write_report
from shapes import SHAPES

STEPS = 4
FORCED_ROUNDS = 2
"""How often all plans by force run in turn: one run after another may differ by a tenth."""


@dataclass(frozen=True)
class Case:
    """One run: `fraction` places its budget between the smallest one (0) and everything (1)."""

    shape: str
    length: int
    rows: int
    dtype: str = "bfloat16"
    activations: str = "auto"
    fraction: float = 0.0
    micro_batches: int = 2

    @property
    def name(self) -> str:
        """What the case is called in the report."""
        return (
            f"{self.shape} {self.micro_batches}x{self.rows}x{self.length} {self.dtype} "
            f"{self.activations} at {self.fraction:g}"
        )


def grid() -> list[Case]:
    """Every value of every axis several times, from 15 M to 1.1 B parameters."""
    small = [
        Case(shape, *size, dtype=dtype, activations=activations, fraction=fraction)
        for shape, size, dtype, activations, fraction in (
            ("llama-15m", (128, 8), "bfloat16", "auto", 0.0),
            ("llama-15m", (1024, 1), "bfloat16", "offload", 0.1),
            ("llama-15m", (1024, 4), "bfloat16", "recompute", 0.3),
            ("llama-15m", (4096, 1), "float32", "keep", 1.0),
            ("llama-15m", (512, 2), "float32", "auto", 0.5),
            ("gpt2", (128, 8), "bfloat16", "auto", 0.0),
            ("gpt2", (1024, 1), "bfloat16", "auto", 0.1),
            ("gpt2", (1024, 2), "bfloat16", "recompute", 0.3),
            ("gpt2", (512, 2), "float32", "auto", 0.2),
            ("gpt2", (1024, 1), "bfloat16", "keep", 1.0),
            ("smollm2-135m", (1024, 1), "bfloat16", "auto", 0.0),
            ("smollm2-135m", (1024, 1), "bfloat16", "auto", 0.1),
            ("smollm2-135m", (1024, 1), "bfloat16", "auto", 0.3),
            ("smollm2-135m", (1024, 1), "bfloat16", "auto", 1.0),
            ("smollm2-135m", (1024, 1), "bfloat16", "recompute", 0.1),
            ("smollm2-135m", (1024, 1), "bfloat16", "offload", 0.1),
            ("smollm2-135m", (1024, 1), "bfloat16", "keep", 0.6),
            ("smollm2-135m", (128, 8), "bfloat16", "auto", 0.1),
            ("smollm2-135m", (128, 1), "bfloat16", "auto", 0.1),
            ("smollm2-135m", (1024, 4), "bfloat16", "auto", 0.2),
            ("smollm2-135m", (4096, 1), "bfloat16", "auto", 0.1),
            ("smollm2-135m", (512, 2), "float32", "auto", 0.0),
            ("smollm2-135m", (512, 2), "float32", "recompute", 0.4),
            ("gemma-3-270m", (512, 2), "bfloat16", "auto", 0.0),
            ("gemma-3-270m", (1024, 1), "bfloat16", "auto", 0.2),
            ("gemma-3-270m", (1024, 1), "bfloat16", "recompute", 0.5),
            ("gemma-3-270m", (256, 4), "float32", "auto", 0.3),
            ("gemma-3-270m", (2048, 1), "bfloat16", "auto", 1.0),
        )
    ]
    large = [
        Case(shape, *size, dtype=dtype, activations=activations, fraction=fraction)
        for shape, size, dtype, activations, fraction in (
            ("smollm2-360m", (1024, 1), "bfloat16", "auto", 0.0),
            ("smollm2-360m", (1024, 1), "bfloat16", "auto", 0.2),
            ("smollm2-360m", (1024, 1), "bfloat16", "recompute", 0.1),
            ("smollm2-360m", (128, 8), "bfloat16", "offload", 0.1),
            ("smollm2-360m", (2048, 1), "bfloat16", "auto", 1.0),
            ("smollm2-360m", (256, 4), "float32", "auto", 0.1),
            ("qwen3-0.6b", (1024, 1), "bfloat16", "auto", 0.0),
            ("qwen3-0.6b", (1024, 1), "bfloat16", "auto", 0.2),
            ("qwen3-0.6b", (512, 2), "bfloat16", "recompute", 0.4),
            ("qwen3-0.6b", (1024, 1), "bfloat16", "keep", 1.0),
            ("llama-1.1b", (1024, 1), "bfloat16", "auto", 0.0),
            ("llama-1.1b", (1024, 1), "bfloat16", "auto", 0.2),
            ("llama-1.1b", (512, 2), "bfloat16", "recompute", 0.1),
            ("llama-1.1b", (2048, 1), "bfloat16", "offload", 0.1),
            ("llama-1.1b", (1024, 1), "bfloat16", "auto", 0.7),
        )
    ]
    return [*small, *large]


def forced() -> list[list[Case]]:
    """Groups of all plans by force, the planner's own choice first; a group has the budget of its
    first case.
    """
    return [
        [
            Case(shape, length, rows, activations=activations, fraction=fraction,
                 micro_batches=4 // rows)
            for activations, rows in (("auto", 1), ("recompute", 1), ("offload", 1), ("auto", 2))
        ]
        for shape, length, fraction in (
            ("llama-15m", 1024, 0.3), ("gpt2", 1024, 0.3), ("smollm2-135m", 1024, 0.2),
        )
    ]  # fmt: skip


class Bench:
    """Runs cases and keeps what they gave.

    Args:
        work: folder for configs, runs and the results so far.
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        self.path = work / "prediction.jsonl"
        self.work.mkdir(parents=True, exist_ok=True)
        self.found: dict[str, dict] = {}
        self.spans: dict[tuple, tuple[int, int]] = {}
        if self.path.exists():
            lines = self.path.read_text().splitlines()
            self.found = {record["name"]: record for record in map(json.loads, lines)}

    def run(self, case: Case) -> dict:
        """Return a case's numbers, from before or from a run now."""
        return self._once(case.name, lambda: {"case": asdict(case)} | self._measure(case))

    def force(self, group: list[Case], number: int) -> None:
        """Run every case of a group once, at the budget of its first one."""
        least, everything = self._span(group[0])
        budget = least + round(group[0].fraction * max(0, everything - least))
        for case in group:
            name = f"forced {number} {case.name}"
            self._once(name, lambda case=case: {"budget": budget} | self._train(case, budget))

    def least(self, case: Case) -> dict:
        """Return the run at the smallest budget that the planner names, and one at five percent
        less.
        """
        return self._once(f"least {case.name}", lambda: self._least(case))

    def _once(self, name: str, measure) -> dict:
        if name not in self.found:
            print(f"-- {name}", file=sys.stderr, flush=True)
            record = measure() | {"name": name}
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            self.found[name] = record
        return self.found[name]

    def _measure(self, case: Case) -> dict:
        least, everything = self._span(case)
        budget = least + round(case.fraction * max(0, everything - least))
        return {"budget": budget, "least": least, "everything": everything} | self._train(
            case, budget
        )

    def _least(self, case: Case) -> dict:
        found = self.run(case)
        less = self._outsize("train", case, round(0.95 * found["least"]))
        return found | {
            "less_exit": less["exit"],
            "less_peak": less["peak"],
            "less_needed": less["json"].get("error", {}).get("needed_bytes"),
        }

    def _span(self, case: Case) -> tuple[int, int]:
        """Return the smallest budget by the plan, and one that holds everything; the same for all
        cases of one step. Where the smallest is to be run, the layers are measured before.
        """
        key = (case.shape, case.length, case.rows, case.dtype, case.micro_batches, case.activations)
        if key not in self.spans:
            if case.fraction == 0:
                self._outsize("train", case, 20 * 2**30, "--dry-run")
            plan = self._outsize("plan train", case, 20 * 2**30, "--objective", "memory")["json"]
            self.spans[key] = plan["budget_bytes"]["host"], plan["everything_bytes"]
        return self.spans[key]

    @property
    def _run_folder(self) -> Path:
        return self.work / "run"

    def _train(self, case: Case, budget: int) -> dict:
        shutil.rmtree(self._run_folder, ignore_errors=True)
        done = self._outsize("train", case, budget, "--output", str(self._run_folder))
        if done["exit"]:
            return {"failed": done["json"]}
        lines = (self._run_folder / "metrics.jsonl").read_text().splitlines()
        seconds = [json.loads(line)["step_s"] for line in lines]
        shutil.rmtree(self._run_folder)
        return {
            "result": done["json"],
            "step_s": statistics.median(seconds[1:]),
            "steps_s": seconds,
        }

    def _outsize(self, verb: str, case: Case, budget: int, *more: str) -> dict:
        folder = self.work / case.shape
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(SHAPES[case.shape]))
        tokens = case.micro_batches * case.rows * case.length
        command = [
            sys.executable, "-m", "outsize", *verb.split(), str(folder),
            "--data", "builtin:python-reference", "--tokenizer", "smollm2-135m",
            "--memory", str(budget), "--steps", str(STEPS), "--tokens-per-step", str(tokens),
            "--max-seq-length", str(case.length), "--micro-batch-size", str(case.rows),
            "--dtype", case.dtype, "--activations", case.activations,
            "--commit-seconds", "1e6", *more,
        ]  # fmt: skip
        timed = [sys.executable, str(Path(__file__).with_name("peak.py")), *command]
        done = subprocess.run(timed, capture_output=True, text=True)
        *lines, peak = done.stdout.splitlines()
        text = lines[-1] if lines else "{}"
        return {"exit": done.returncode, "json": json.loads(text), "peak": int(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("prediction-work"))
    parser.add_argument("--only", default="", help="run only cases whose name holds this text")
    parser.add_argument("--report", action="store_true", help="only write the report anew")
    options = parser.parse_args()
    bench = Bench(options.work)
    if not options.report:
        for case in grid():
            if options.only in case.name:
                bench.run(case)
        for group in forced():
            for number in range(1, FORCED_ROUNDS + 1):
                if options.only in group[0].name:
                    bench.force(group, number)
        for case in grid():
            if case.fraction == 0 and options.only in case.name:
                bench.least(case)
    names = [[case.name for case in group] for group in forced()]
    path = Path(__file__).parent / "results" / f"prediction-{datetime.date.today()}.md"
    write_report(path, bench.found, [case.name for case in grid()], names)
    print(path.read_text())


if __name__ == "__main__":
    main()
