"""`make demo`: the whole story on a small real model, told by the verbs themselves.

Each part is a process of its own, started as a user would start it, so every number is the one that
the verb prints.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from outsize.errors import OutsizeError, RunError
from outsize.quantities import format_bytes, format_seconds
from outsize.report.terminal import make_console

MODEL = "smollm2-135m"
MEMORY = "1GiB"
RUN = Path("demo-run")
PROMPT = 'The "with" statement is used to'
STEPS = 10


def run() -> dict[str, Any]:
    """Answer a prompt, fine-tune, answer it again, and prove that the result is exact.

    Raises:
        OutsizeError: a part failed; its own message was printed.
    """
    console, start_s = make_console(), time.monotonic()
    _clear_old_run()
    console.print(
        f"Fine-tuning all parameters of {MODEL} with AdamW on the Python language reference, the "
        f"whole process inside {MEMORY}.\n"
    )
    before = _part(console, "1/4  a prompt, before", _generate(MODEL))
    trained = _part(
        console,
        f"2/4  {STEPS} steps of 4096 tokens",
        [
            "train", MODEL, "--data", "builtin:python-reference", "--memory", MEMORY,
            "--steps", str(STEPS), "--learning-rate", "1e-4", "--output", str(RUN),
        ],
    )  # fmt: skip
    after = _part(console, "3/4  the same prompt, after", _generate(str(RUN)))
    proof = _part(
        console,
        "4/4  the proof: streamed training equals plain PyTorch",
        ["verify", MODEL, "--memory", MEMORY, "--quick", "--steps", "2"],
    )
    seconds = time.monotonic() - start_s
    console.print(_summary(before, trained, after, proof, seconds))
    return {
        "command": "demo",
        "before": before["text"],
        "after": after["text"],
        "train": trained,
        "equal": proof["equal"],
        "seconds": seconds,
    }


def _clear_old_run() -> None:
    """Remove what an earlier demo left; anything else of that name is not touched."""
    if not RUN.exists():
        return
    settings = RUN / "run.json"
    if not settings.is_file() or json.loads(settings.read_bytes())["options"]["model"] != MODEL:
        raise RunError(f"{RUN} is in the way and is no earlier demo; move it away.")
    shutil.rmtree(RUN)


def _generate(model: str) -> list[str]:
    return [
        "generate", model, "--prompt", PROMPT, "--no-chat", "--max-new-tokens", "40",
        "--memory", MEMORY,
    ]  # fmt: skip


def _part(console: Console, title: str, arguments: list[str]) -> dict[str, Any]:
    console.rule(title, align="left", style="dim")
    done = subprocess.run(
        [sys.executable, "-m", "outsize", *arguments], stdout=subprocess.PIPE, text=True
    )
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise OutsizeError(f"outsize {' '.join(arguments)} exited with {done.returncode}.")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _summary(
    before: dict[str, Any],
    trained: dict[str, Any],
    after: dict[str, Any],
    proof: dict[str, Any],
    seconds: float,
) -> Panel:
    predicted, measured = trained["predicted_peak_bytes"], trained["measured_peak_bytes"]
    equal = "equal, every bit" if proof["equal"] else "DIFFERENT"
    rows = {
        "memory": f"predicted {format_bytes(predicted['host'])}, "
        f"measured {format_bytes(measured['host'])}, "
        f"budget {format_bytes(trained['budget_bytes']['host'])}",
        "speed": f"{trained['tokens_per_s']:.0f} tokens/s",
        "loss": f"{trained['loss_first']:.3f} to {trained['loss_last']:.3f}",
        "result": f"{equal} to plain PyTorch, whose peak was {_plain_peak(proof)}",
        "time": format_seconds(seconds),
        "before": _answer(before),
        "after": _answer(after),
    }
    table = Table.grid(padding=(0, 2))
    for label, text in rows.items():
        table.add_row(label, text)
    return Panel(table, title="Outsize", title_align="left", border_style="dim")


def _plain_peak(proof: dict[str, Any]) -> str:
    return format_bytes(max(case["plain_peak_bytes"] for case in proof["cases"]))


def _answer(generated: dict[str, Any]) -> Text:
    answer = " ".join(("|" + generated["text"]).split())[1:]
    return Text.assemble(PROMPT, (answer, "dim"))
