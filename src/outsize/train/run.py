"""A training run from options to result: prepare, plan, import or resume, train.

The order keeps the budget: model files and data are read in child processes before this one has grown, then libraries are
imported, layers profiled and the step planned, and only then is anything large allocated.
"""

import contextlib
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from outsize.errors import BudgetError, Contributor
from outsize.formats.hub import ModelFiles, open_weights
from outsize.models.registry import build
from outsize.plan.simulate import Prediction
from outsize.results import PlanResult, TierBytes, TrainResult
from outsize.runtime.events import (
    Notice,
    OnEvent,
    PhaseAdvanced,
    PhaseFinished,
    PhaseStarted,
    Planned,
)
from outsize.runtime.slots import Slots
from outsize.store.arena import HostArena
from outsize.store.budget import peak_children_bytes, peak_resident_bytes
from outsize.store.disk import DiskStore
from outsize.store.heap import trim_heap
from outsize.store.journal import Journal, create_journal
from outsize.store.store import Extent, layout_bytes
from outsize.train.data.rows import PackedRows
from outsize.train.evaluate import Evaluator
from outsize.train.explain import plan_rows
from outsize.train.import_weights import check_tensors, import_state
from outsize.train.launch import Launch
from outsize.train.options import TrainOptions
from outsize.train.run_folder import RunFolder
from outsize.train.session import Session, plan_session, torch_dtype
from outsize.train.state_file import (
    all_extents,
    create_state,
    drop_scratch,
    durable_regions,
    plan_lists,
    reopen_state,
)
from outsize.train.trainer import Trainer, TrainLog, commit_state, read_batch

_JOURNAL_BYTES_PER_REGION = 24
_SMALL_FILES_BYTES = 2 * 2**20
"""Room for run.json, plan.txt and metrics.jsonl in the disk prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """A planned run: the session, the rows, and what it will take on disk."""

    session: Session
    rows: PackedRows
    evaluator: Evaluator | None
    extents: tuple[Extent, ...]
    num_steps: int
    predicted_peak_bytes: TierBytes


def plan_run(inputs: Launch, on_event: OnEvent) -> Planning:
    """Import libraries, profile the layers and plan the step; loads no weights.

    Raises:
        OutsizeError: the options, the model or the budgets do not allow the run.
    """
    options = inputs.folder.options
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = build(inputs.folder.model, torch_dtype(options.dtype))
    rows = PackedRows(inputs.folder.data)
    with _phase("profile", on_event):
        batch = read_batch(rows, [0])
        session = plan_session(
            model, options, batch, inputs.host_budget_bytes, inputs.folder.path
        )
    evaluator = _evaluator(session, inputs.folder)
    lists = [*plan_lists(session.planned.plan)]
    if evaluator is not None:
        lists.append(tuple(evaluator.actions))
    extents = all_extents(session.layout, lists)
    planning = Planning(
        session=session,
        rows=rows,
        evaluator=evaluator,
        extents=extents,
        num_steps=_num_steps(options, rows.num_rows, session),
        predicted_peak_bytes=TierBytes(
            host=session.predicted_host_bytes,
            disk=layout_bytes(extents) + _other_disk_bytes(session, inputs.folder),
        ),
    )
    _check_disk(planning, inputs)
    on_event(Planned(rows=plan_rows(planning, inputs)))
    return planning


def run_training(inputs: Launch, on_event: OnEvent, start_s: float) -> TrainResult:
    """Plan and train.

    Raises:
        OutsizeError: as `plan_run`, or the disk failed in the middle of the run.
    """
    planning = plan_run(inputs, on_event)
    folder, session = inputs.folder, planning.session
    _notice = _notifier(on_event)
    arena = HostArena(session.planned.plan.arena_bytes)
    store, journal, slots, done = _open_state(inputs, planning, arena, on_event, _notice)
    folder.plan.write_text(session.planned.plan.to_text())
    with contextlib.closing(store), _interruptible() as should_stop:
        trainer = Trainer(
            session=session,
            options=folder.options,
            rows=planning.rows,
            num_steps=planning.num_steps,
            done_steps=done,
            arena=arena,
            store=store,
            slots=slots,
            journal=journal,
            on_event=on_event,
            on_step=folder.log,
            evaluate=_evaluate(planning, arena, store, slots),
            should_stop=should_stop,
        )
        log = trainer.run()
    disk_bytes = _allocated_bytes(folder.path)
    drop_scratch(folder.state, session.layout)
    return _result(inputs, planning, log, done, disk_bytes, time.monotonic() - start_s)


def _open_state(
    inputs: Launch,
    planning: Planning,
    arena: HostArena,
    on_event: OnEvent,
    notice: Callable[[str], None],
) -> tuple[DiskStore, Journal, Slots, int]:
    """Open the state of a resumed run, or make it from the model's files."""
    folder, layout = inputs.folder, planning.session.layout
    if inputs.resumed:
        journal = Journal(folder.journal)
        record = journal.latest()
        if record is not None:
            slots = Slots.from_record(record, durable_regions(layout))
            store = reopen_state(folder.state, layout, planning.extents, notice)
            step = int(str(record["step"]))
            folder.forget_after(step)
            return store, journal, slots, step
    for path in (folder.state, folder.journal, folder.metrics):
        path.unlink(missing_ok=True)
    store = create_state(folder.state, planning.extents, notice)
    try:
        regions = durable_regions(layout)
        create_journal(
            folder.journal, capacity_bytes=_JOURNAL_BYTES_PER_REGION * len(regions) + 4096
        )
        journal, slots = Journal(folder.journal), Slots()
        if not inputs.resumed:
            folder.start({"num_steps": planning.num_steps})
        _import(folder, inputs.files, planning, arena, store, slots, on_event)
        commit_state(store, slots, journal, 0)
    except BaseException:
        store.close()
        for path in (folder.state, folder.journal):
            path.unlink(missing_ok=True)
        if not inputs.resumed:
            (folder.path / "run.json").unlink(missing_ok=True)
        raise
    return store, journal, slots, 0


def _import(
    folder: RunFolder,
    files: ModelFiles,
    planning: Planning,
    arena: HostArena,
    store: DiskStore,
    slots: Slots,
    on_event: OnEvent,
) -> None:
    session, options = planning.session, folder.options
    source = open_weights(files)
    try:
        if source is not None:
            check_tensors(source, session.layout, str(options.model))
        total = sum(layer.num_elements for layer in session.layout.layers)
        with _phase("import", on_event, total, "parameters"):
            import_state(
                layout=session.layout,
                model=session.model,
                source=source,
                seed=options.seed,
                arena=arena,
                store=store,
                slots=slots,
                on_progress=lambda done: on_event(PhaseAdvanced(phase="import", done=done)),
            )
    finally:
        if source is not None:
            source.close()
    trim_heap()


def _evaluator(session: Session, folder: RunFolder) -> Evaluator | None:
    options = folder.options
    if options.evaluation_data is not None:
        return Evaluator(session, PackedRows(folder.evaluation_data))
    if options.evaluation_fraction:
        return Evaluator(session, PackedRows(folder.data / "evaluation"))
    return None


def _evaluate(
    planning: Planning, arena: HostArena, store: DiskStore, slots: Slots
) -> Callable[[], float] | None:
    evaluator = planning.evaluator
    return None if evaluator is None else lambda: evaluator.run(arena, store, slots)


def _num_steps(options: TrainOptions, num_rows: int, session: Session) -> int:
    if options.steps is not None:
        return options.steps
    rows = (options.epochs if options.epochs is not None else 1.0) * num_rows
    return max(1, math.ceil(rows / session.layout.workload.rows_per_step))


def _other_disk_bytes(session: Session, folder: RunFolder) -> int:
    """Bytes of the run folder besides the state file."""
    regions = len(durable_regions(session.layout))
    journal_bytes = 2 * (_JOURNAL_BYTES_PER_REGION * regions + 8192) + 4096
    prepared_bytes = sum(
        _allocated_bytes(path) for path in (folder.model, folder.data, folder.evaluation_data)
    )
    return prepared_bytes + journal_bytes + _SMALL_FILES_BYTES


def _check_disk(planning: Planning, inputs: Launch) -> None:
    needed_bytes = planning.predicted_peak_bytes.disk
    if needed_bytes <= inputs.disk_budget_bytes:
        return
    state_bytes = planning.session.layout.state_bytes
    raise BudgetError(
        f"Training {inputs.folder.options.model} in {inputs.folder.path}",
        needed_bytes=needed_bytes,
        budget_bytes=inputs.disk_budget_bytes,
        tier="disk",
        contributors=(
            Contributor(role="masters and moments, two copies", size_bytes=2 * state_bytes),
            Contributor(
                role="scratch", size_bytes=layout_bytes(planning.extents) - 2 * state_bytes
            ),
        ),
    )


def _allocated_bytes(path: Path) -> int:
    """Bytes that a folder's files take on disk."""
    if not path.exists():
        return 0
    return sum(p.stat().st_blocks * 512 for p in path.rglob("*") if p.is_file())


def _result(
    inputs: Launch,
    planning: Planning,
    log: TrainLog,
    done: int,
    disk_bytes: int,
    seconds: float,
) -> TrainResult:
    session, num_new = planning.session, len(log.losses)
    prediction: Prediction = session.prediction
    workload = session.layout.workload
    host_bytes = max(peak_resident_bytes(), inputs.launch_bytes + peak_children_bytes())
    return TrainResult(
        model=str(inputs.folder.options.model),
        steps=done + num_new,
        tokens=num_new * workload.tokens_per_step,
        loss_first=log.losses[0] if log.losses else math.nan,
        loss_last=log.losses[-1] if log.losses else math.nan,
        evaluation_loss=log.evaluation_loss,
        tokens_per_s=num_new * workload.tokens_per_step / max(sum(log.step_s), 1e-9),
        budget_bytes=TierBytes(host=inputs.host_budget_bytes, disk=inputs.disk_budget_bytes),
        predicted_peak_bytes=planning.predicted_peak_bytes,
        measured_peak_bytes=TierBytes(host=host_bytes, disk=disk_bytes),
        predicted_step_s=prediction.step_s,
        measured_step_s=statistics.median(log.step_s) if log.step_s else 0.0,
        predicted_exposed_io_s=prediction.exposed_io_s,
        exposed_io_s=log.exposed_io_s / max(1, num_new),
        predicted_bytes_read=prediction.bytes_read * num_new,
        predicted_bytes_written=prediction.bytes_written * num_new,
        bytes_read=log.bytes_read,
        bytes_written=log.bytes_written,
        limited_by=prediction.limited_by,
        output=str(inputs.folder.path),
        resumed_from=done if inputs.resumed else None,
        interrupted=log.interrupted,
        seconds=seconds,
    )


@contextlib.contextmanager
def _phase(name: str, on_event: OnEvent, total: int | None = None, unit: str = "") -> Iterator[None]:
    on_event(PhaseStarted(phase=name, total=total, unit=unit))
    start_s = time.monotonic()
    yield
    on_event(PhaseFinished(phase=name, seconds=time.monotonic() - start_s))


def _notifier(on_event: OnEvent) -> Callable[[str], None]:
    return lambda text: on_event(Notice(text=text))


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C ask for the end of the run after the current step; the second one interrupts at once."""
    asked = False

    def remember(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, previous)

    previous = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, remember)
    except ValueError:
        # Not the main thread: there is no Ctrl-C to catch.
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)


def plan_result(inputs: Launch, planning: Planning) -> PlanResult:
    """Return a plan as the result of its verb."""
    prediction = planning.session.prediction
    tokens = planning.session.layout.workload.tokens_per_step
    return PlanResult(
        model=str(inputs.folder.options.model),
        steps=planning.num_steps,
        tokens_per_step=tokens,
        budget_bytes=TierBytes(host=inputs.host_budget_bytes, disk=inputs.disk_budget_bytes),
        predicted_peak_bytes=planning.predicted_peak_bytes,
        predicted_step_s=prediction.step_s,
        predicted_tokens_per_s=tokens / prediction.step_s,
        predicted_exposed_io_s=prediction.exposed_io_s,
        predicted_bytes_read=prediction.bytes_read,
        predicted_bytes_written=prediction.bytes_written,
        limited_by=prediction.limited_by,
        rows=plan_rows(planning, inputs),
        plan=planning.session.planned.plan.to_text(),
    )
