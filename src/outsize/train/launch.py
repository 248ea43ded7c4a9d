"""What happens before libraries are imported: the run folder, the budgets, and the child processes.

No torch in here. Model config, tokenizer and data are prepared in children, one after the other,
while this process is still small; their memory ends with them.
"""

import dataclasses
import datetime
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from outsize.errors import BudgetError, ModelError, UsageError
from outsize.formats.hub import ModelFiles
from outsize.isolate import run_isolated
from outsize.paths import is_folder, is_there
from outsize.probe.known import known_machine
from outsize.runtime.events import OnEvent, Planned, phase
from outsize.spec.machine import MachineProfile
from outsize.store.budget import peak_children_bytes, reset_peak, resident_bytes
from outsize.train.adapter import settled
from outsize.train.budgets import free_disk_bytes, host_budget_bytes
from outsize.train.data.child import prepare_in_child
from outsize.train.data.options import DataOptions
from outsize.train.methods import best_method, price_rows, with_method
from outsize.train.options import PlanOptions, TrainOptions
from outsize.train.run_folder import RunFolder, merged_options


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What was prepared before libraries are imported.

    Attributes:
        folder: the run folder, locked.
        files: where the weights are; None for a model of the caller's own.
        machine: what is known of this machine.
        resumed: whether the run goes on.
        host_budget_bytes: for this process.
        disk_budget_bytes: for the run folder.
        launch_peak_bytes: the most that this process and its largest child took together.
    """

    folder: RunFolder
    files: ModelFiles | None
    machine: MachineProfile
    resumed: bool
    host_budget_bytes: int
    disk_budget_bytes: int
    launch_peak_bytes: int


@contextmanager
def launch(
    options: TrainOptions, on_event: OnEvent, *, own_model: bool = False
) -> Iterator[Launch]:
    """Open the run folder and prepare model config, tokenizer and data in it.

    Raises:
        OutsizeError: folder, model or data cannot be used; a folder that was made for this is
            removed again.
    """
    options = settled(options)
    reset_peak()
    before_bytes = peak_children_bytes()
    if options.resume is not None:  # a run that goes on keeps its budget, unless another is asked
        options = merged_options(Path(options.resume), options)
    host_bytes = _host_budget_bytes(options, on_event, own_model)
    if options.resume is None and options.method == "auto":
        options = _with_method(options, on_event, own_model)
    elif options.resume is None and options.has_adapters and not own_model:
        _check_adapters(options)
    was_there = options.output is not None and is_there(Path(options.output))
    folder = _open_folder(options)
    made_here = options.resume is None
    try:
        machine = known_machine(folder.path, on_event, threads=options.threads)
        # A run that has committed something goes on with the model and the rows that it has.
        prepared = options.resume is not None and folder.has_commit()
        files = None if prepared else _prepare(folder, on_event, own_model)
        yield Launch(
            folder=folder,
            files=files,
            machine=machine,
            resumed=options.resume is not None,
            host_budget_bytes=host_bytes,
            disk_budget_bytes=_disk_budget_bytes(folder),
            launch_peak_bytes=resident_bytes() + _new_peak_bytes(before_bytes),
        )
    finally:
        folder.close()
        if made_here and not (folder.path / "run.json").exists():
            _remove(folder.path, keep_folder=was_there)


def _with_method(options: TrainOptions, on_event: OnEvent, own_model: bool) -> TrainOptions:
    """Return the options with the method that the planner chooses; says what each would take."""
    if own_model or options.model is None:
        return dataclasses.replace(options, method="full")
    from outsize.train.foresee import choose_method

    with phase("methods", on_event):
        found = choose_method(_as_plan(options), on_event)
    on_event(Planned(rows=price_rows(found)))
    return dataclasses.replace(options, method=best_method(found))


def _check_adapters(options: TrainOptions) -> None:
    """Refuse adapters that fit no matrix of the model, before anything is prepared."""
    from outsize.formats.model_spec import know_model

    if options.model is not None:
        with_method(know_model(options.model), _as_plan(options))


def _as_plan(options: TrainOptions) -> PlanOptions:
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    return PlanOptions(**values)


def _host_budget_bytes(options: TrainOptions, on_event: OnEvent, own_model: bool) -> int:
    """Return the host budget; one that is too small for the libraries is refused with what the
    plan says is needed, where that can be told.
    """
    try:
        return host_budget_bytes(options.memory_bytes)
    except BudgetError:
        if not own_model and options.memory_bytes is not None:
            from outsize.train.foresee import foresee

            foresee(_as_plan(options), on_event)
        raise


def _new_peak_bytes(before_bytes: int) -> int:
    """Return the peak of the largest child since the largest one took `before_bytes`; 0 when none
    took more.
    """
    peak_bytes = peak_children_bytes()
    return peak_bytes if peak_bytes > before_bytes else 0


def _remove(folder: Path, *, keep_folder: bool) -> None:
    """Remove what a start that failed has made in its folder."""
    if not keep_folder:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _open_folder(options: TrainOptions) -> RunFolder:
    if options.resume is not None:
        return RunFolder.open(Path(options.resume), options)
    if options.model is None:
        raise UsageError("A new run needs a MODEL; --resume DIR goes on with an old one.")
    if options.data is None:
        raise UsageError("Training needs --data; for example --data builtin:python-reference.")
    if options.dry_run:
        output = Path(options.output or _default_output(options.model)).resolve()
        there = next(parent for parent in output.parents if is_folder(parent))
        return RunFolder.create(Path(mkdtemp(prefix="outsize-plan-", dir=there)), options)
    return RunFolder.create(Path(options.output or _default_output(options.model)), options)


def _default_output(model: str) -> str:
    name = re.sub(r"[^\w.-]+", "-", Path(model).name) or "model"
    return os.path.join("runs", f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}")


def _prepare(folder: RunFolder, on_event: OnEvent, own_model: bool) -> ModelFiles | None:
    folder.model.mkdir(exist_ok=True)
    files = None
    if own_model:
        _prepare_tokenizer(folder, on_event)
    else:
        files = _prepare_model(folder, on_event)
    with phase("data", on_event):
        _prepare_data(folder)
    return files


def _prepare_tokenizer(folder: RunFolder, on_event: OnEvent) -> None:
    tokenizer = folder.options.tokenizer
    if tokenizer is None:
        raise UsageError("A model of your own needs tokenizer=, a folder or Hub id that has one.")
    with phase("tokenizer", on_event):
        run_isolated(
            "outsize.formats.prepare:prepare_tokenizer",
            {"tokenizer": tokenizer, "folder": str(folder.model)},
        )


def _prepare_model(folder: RunFolder, on_event: OnEvent) -> ModelFiles:
    options = folder.options
    with phase("model", on_event):
        found = run_isolated(
            "outsize.formats.prepare:prepare_for_training",
            {
                "model": options.model,
                "folder": str(folder.model),
                "tokenizer": options.tokenizer,
            },
        )
    if not found["has_tokenizer"]:
        raise ModelError(
            f"{options.model} has no tokenizer; "
            "name a folder or Hub id that has one with --tokenizer."
        )
    return ModelFiles(
        name=str(found["name"]),
        folder=Path(str(found["folder"])),
        gguf_file=found["gguf_file"],
        kind=found["kind"],
    )


def _prepare_data(folder: RunFolder) -> None:
    options = folder.options
    assert options.data is not None
    prepare_in_child(_data_options(folder, options.data, folder.data))
    if options.evaluation_data is not None:
        prepare_in_child(_data_options(folder, options.evaluation_data, folder.evaluation_data))


def _data_options(folder: RunFolder, data: str, output: Path) -> DataOptions:
    options = folder.options
    fraction = options.evaluation_fraction if output == folder.data else 0.0
    values: dict[str, Any] = {
        "data": data,
        "tokenizer_folder": str(folder.model),
        "output": str(output),
        "max_seq_length": options.max_seq_length,
        "train_on": options.train_on,
        "text_field": options.text_field,
        "packing": options.packing,
        "evaluation_fraction": fraction,
    }
    return DataOptions(**values)


def _disk_budget_bytes(folder: RunFolder) -> int:
    free_bytes, asked = free_disk_bytes(folder.path), folder.options.disk_bytes
    return free_bytes if asked is None else min(asked, free_bytes)
