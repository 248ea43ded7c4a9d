"""The streamed side of one case, in a process of its own: the real run, on prepared rows.

Everything from the plan to the last commit is what `outsize train` does; only config and rows lie
in the run folder already.
"""

import shutil
import time
from pathlib import Path
from typing import Any

from outsize.formats.hub import ModelFiles
from outsize.probe.known import known_machine
from outsize.runtime.events import Event, StepFinished, ignore
from outsize.store.budget import peak_resident_bytes, resident_bytes
from outsize.store.heap import keep_heap_pages
from outsize.train.launch import Launch
from outsize.train.options import TrainOptions
from outsize.train.run import run_training
from outsize.train.run_folder import RunFolder
from outsize.train.verify.progress import step_finished


def train_streamed(
    *,
    folder: str,
    options: dict[str, Any],
    files: dict[str, Any],
    budget_bytes: int,
    progress: str,
) -> dict[str, Any]:
    """Train in the run folder and leave the state there.

    Args:
        folder: the run folder; it holds `model/` and `data/`.
        options: fields of `TrainOptions`.
        files: fields of `ModelFiles`, where the weights are.
        budget_bytes: host budget of this process.
        progress: the pipe of `progress.py`.

    Returns:
        JSON-able: the `losses` of all steps, the `disk_budget_bytes`, and the `peak_bytes` of this
        process.

    Raises:
        OutsizeError: as `run_training`.
    """
    start_s = time.monotonic()
    keep_heap_pages()
    run = RunFolder.create(Path(folder), TrainOptions(**options))
    losses: list[float] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StepFinished):
            losses.append(event.loss)
            step_finished(Path(progress))

    inputs = Launch(
        folder=run,
        files=model_files(files),
        machine=known_machine(run.path, ignore, threads=run.options.threads),
        resumed=False,
        host_budget_bytes=budget_bytes,
        disk_budget_bytes=shutil.disk_usage(run.path).free,
        launch_peak_bytes=resident_bytes(),
    )
    try:
        run_training(inputs, on_event, start_s)
    finally:
        run.close()
    return {
        "losses": losses,
        "disk_budget_bytes": inputs.disk_budget_bytes,
        "peak_bytes": peak_resident_bytes(),
    }


def model_files(fields: dict[str, Any]) -> ModelFiles:
    """Read what `prepare` found from its JSON."""
    return ModelFiles(
        name=fields["name"],
        folder=Path(fields["folder"]),
        gguf_file=fields["gguf_file"],
        kind=fields["kind"],
    )
