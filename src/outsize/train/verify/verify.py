"""`outsize verify`: every case trains twice, streamed and in plain PyTorch, and both are compared.

Each side has a process of its own, one after the other, so that neither sees the other's memory,
random state or heap. What is compared is masters, moments and losses, exactly.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from outsize.errors import StorageError
from outsize.isolate import run_isolated
from outsize.options import VerifyOptions
from outsize.paths import is_there, user_path
from outsize.results import TierBytes, VerifyCase, VerifyResult
from outsize.runtime.events import Notice, OnEvent, PhaseAdvanced, phase
from outsize.store.budget import host_limits
from outsize.store.kernel import reason
from outsize.store.lock import RunLock
from outsize.train.budgets import host_budget_bytes
from outsize.train.verify.cases import Case, make_cases, most_accumulation, training_options
from outsize.train.verify.progress import count_steps

_FILE_KEYS = ("name", "folder", "gguf_file", "kind")
_OF_ONE_CASE = ("run.json", "state.bin", "journal.bin", "metrics.jsonl", "plan.txt")


def run_verify(options: VerifyOptions, on_event: OnEvent) -> VerifyResult:
    """Compare every case.

    Raises:
        OutsizeError: the model, the budget or the disk does not allow it.

    Cost: on disk the streamed run's folder, removed at the end; on host the larger of the two
    sides, plain PyTorch's being all of its state.
    """
    start_s = time.monotonic()
    budget_bytes = host_budget_bytes(options.memory_bytes)
    with _work_folder(options.work) as work:
        run = work / "run"
        run.mkdir()
        RunLock(run).release()  # the folder is a run's from now on
        with phase("model", on_event):
            prepared = _prepare(options, run)
        _tell_limits(options, prepared, on_event)
        cases = make_cases(options)
        differences, disk_bytes = [], 0
        with _phase_of_steps(work, 2 * options.steps * len(cases), on_event) as pipe:
            for case in cases:
                found, disk_bytes = _compare(options, case, run, prepared, budget_bytes, pipe)
                differences.append(found)
    return VerifyResult(
        model=options.model,
        steps=options.steps,
        num_layers=prepared["num_layers"],
        num_layers_model=prepared["num_layers_model"],
        num_elements=prepared["num_elements"],
        budget_bytes=TierBytes(host=budget_bytes, disk=disk_bytes),
        cases=tuple(differences),
        seconds=time.monotonic() - start_s,
    )


@contextmanager
def _work_folder(parent: str | None) -> Iterator[Path]:
    """Make a folder inside of `parent`, and remove it, and nothing else, at the end.

    Without a parent it is made in the working folder: the system's temporary one may be memory.
    """
    place = Path.cwd() if parent is None else user_path(parent)
    made_here = not is_there(place)
    try:
        place.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="outsize-verify-", dir=place)
    except OSError as error:
        raise StorageError(
            f"A folder for the comparison cannot be made in {place}: {reason(error)}.\n"
            "  Name another place with --work."
        ) from error
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if made_here and not any(place.iterdir()):
            place.rmdir()


def _prepare(options: VerifyOptions, run: Path) -> dict[str, Any]:
    return run_isolated(
        "outsize.train.verify.prepare:prepare",
        {
            "model": options.model,
            "folder": str(run),
            "layers": options.layers,
            "dtypes": options.dtypes[:1] if options.quick else options.dtypes,
            "steps": options.steps,
            "tokens_per_step": options.tokens_per_step,
            "max_seq_length": options.max_seq_length,
            "seed": options.seed,
            "free_bytes": host_limits().free_bytes,
        },
    )


def _tell_limits(options: VerifyOptions, prepared: dict[str, Any], on_event: OnEvent) -> None:
    used, whole = prepared["num_layers"], prepared["num_layers_model"]
    if options.layers is None and used < whole:
        on_event(
            Notice(
                text=f"plain PyTorch has room for {used} of the {whole} layers of "
                f"{options.model}; both sides train the model's first {used} layers."
            )
        )
    most = most_accumulation(options)
    if most < 4:
        rows = options.tokens_per_step // options.max_seq_length
        on_event(
            Notice(
                text=f"the {rows} rows of a step cannot be dealt to 4 micro-batches; the most that "
                f"is compared is {most}."
            )
        )


@contextmanager
def _phase_of_steps(work: Path, total: int, on_event: OnEvent) -> Iterator[Path]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        on_event(PhaseAdvanced(phase="verify", done=done))

    pipe = work / "steps"
    with phase("verify", on_event, total, "steps"), count_steps(pipe, advance):
        yield pipe


def _compare(
    options: VerifyOptions,
    case: Case,
    run: Path,
    prepared: dict[str, Any],
    budget_bytes: int,
    pipe: Path,
) -> tuple[VerifyCase, int]:
    """Run both sides of a case; return the differences and the disk budget."""
    shared = {
        "folder": str(run),
        "options": _without_given(asdict(training_options(options, case))),
        "files": {key: prepared[key] for key in _FILE_KEYS},
        "progress": str(pipe),
    }
    streamed = run_isolated(
        "outsize.train.verify.streamed:train_streamed", shared | {"budget_bytes": budget_bytes}
    )
    found = run_isolated(
        "outsize.train.verify.plain_run:train_plain",
        shared | {"streamed_losses": streamed["losses"]},
    )
    for name in _OF_ONE_CASE:
        (run / name).unlink(missing_ok=True)
    result = VerifyCase(
        **asdict(case),
        max_difference_weights=found["master"],
        max_difference_exp_avg=found["exp_avg"],
        max_difference_exp_avg_sq=found["exp_avg_sq"],
        max_difference_losses=found["losses"],
        streamed_peak_bytes=streamed["peak_bytes"],
        plain_peak_bytes=found["peak_bytes"],
    )
    return result, streamed["disk_budget_bytes"]


def _without_given(fields: dict[str, Any]) -> dict[str, Any]:
    """Drop the one field that is not JSON; nobody resumes these runs."""
    return {key: value for key, value in fields.items() if key != "given"}
