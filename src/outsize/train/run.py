"""A training run from options to result: prepare, plan, import or resume, train.

The order keeps the budget: model files and data are read in child processes before this one has
grown, then libraries are imported, layers profiled and the step planned, and only then is anything
large allocated.
"""

import contextlib
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace

from outsize.errors import StorageError
from outsize.formats.hub import ModelFiles, open_weights
from outsize.models.layered import LayeredModel
from outsize.paths import is_there, user_path
from outsize.plan.layout import Layout
from outsize.plan.whole_run import Piece, count_turns, whole_run
from outsize.results import TierBytes, TrainResult
from outsize.runtime.events import Notice, OnEvent, PhaseAdvanced, phase
from outsize.runtime.slots import Slots
from outsize.store.arena import HostArena
from outsize.store.budget import peak_resident_bytes
from outsize.store.disk import DiskStore
from outsize.store.heap import trim_heap
from outsize.store.journal import Journal, create_journal
from outsize.store.store import StoreCounters
from outsize.train.budgets import allocated_bytes
from outsize.train.import_weights import import_state
from outsize.train.interrupt import interruptible
from outsize.train.launch import Launch
from outsize.train.planning import Planning, plan_run
from outsize.train.run_folder import RunFolder, last_commit
from outsize.train.state_file import (
    JOURNAL_BYTES_PER_REGION,
    create_state,
    drop_scratch,
    durable_regions,
    reopen_state,
)
from outsize.train.step_data import TrainLog
from outsize.train.trainer import Trainer, commit_state


def run_training(
    inputs: Launch, on_event: OnEvent, start_s: float, own_model: LayeredModel | None = None
) -> TrainResult:
    """Plan and train.

    Raises:
        OutsizeError: as `plan_run`, or the disk failed in the middle of the run.
    """
    planning = plan_run(inputs, on_event, own_model)
    folder, session = inputs.folder, planning.session
    arena = HostArena(session.planned.plan.arena_bytes)
    store, journal, slots, done = _open_state(inputs, planning, arena, on_event)
    if done >= planning.num_steps:
        on_event(Notice(text=f"all {done} steps of this run are done already; nothing is left."))
    with contextlib.closing(store), interruptible() as should_stop:
        folder.keep_plan(session.planned.plan.to_text())
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
        try:
            log = trainer.run()
        except StorageError as error:
            if trainer.is_whole or not folder.options.in_place:
                raise
            raise _lost(error) from error
        moved = store.counters()
    disk_bytes = allocated_bytes(folder.path)
    drop_scratch(folder.state, session.layout)
    return _result(inputs, planning, log, moved, disk_bytes, time.monotonic() - start_s)


def _open_state(
    inputs: Launch,
    planning: Planning,
    arena: HostArena,
    on_event: OnEvent,
) -> tuple[DiskStore, Journal, Slots, int]:
    """Open the state of a resumed run, or make it from the model's files."""
    folder, layout = inputs.folder, planning.session.layout

    def notice(text: str) -> None:
        on_event(Notice(text=text))

    if inputs.resumed and folder.has_commit():
        journal = Journal(folder.journal)
        record = last_commit(folder.journal)
        assert record is not None
        copies = layout.state_copies
        slots = Slots.from_record(record, durable_regions(layout), num_slots=copies)
        store = reopen_state(folder.state, layout, planning.extents, notice)
        step = int(str(record["step"]))
        folder.forget_after(step)
        return store, journal, slots, step
    for path in (folder.state, folder.journal, folder.metrics):
        path.unlink(missing_ok=True)
    try:
        if not inputs.resumed:
            # First of all: from now on the run can be resumed, whenever the process dies.
            facts = {"num_steps": planning.num_steps, "layout": asdict(layout)}
            folder.start(facts | {"base": _base(str(folder.options.model))})
        with contextlib.ExitStack() as failed:
            store = create_state(folder.state, planning.extents, notice)
            failed.callback(store.close)
            journal, slots = _new_journal(folder, layout), Slots(num_slots=layout.state_copies)
            _import(folder, inputs.files, planning, arena, store, slots, on_event)
            commit_state(store, slots, journal, 0)
            failed.pop_all()
    except BaseException:
        for path in (folder.state, folder.journal):
            path.unlink(missing_ok=True)
        if not inputs.resumed:
            (folder.path / "run.json").unlink(missing_ok=True)
        raise
    return store, journal, slots, 0


def _base(model: str) -> str:
    """Return the model's name, or where it is, for whoever looks for it from another folder."""
    path = user_path(model)
    return str(path.resolve()) if is_there(path) else model


def _lost(error: StorageError) -> StorageError:
    """Say of a run that keeps its state in place what a failure in the middle of a step means."""
    what, _, _ = str(error).partition("\n")
    return StorageError(
        f"{what}\n  The run keeps its state in place (--in-place) and a step was changing it, "
        "so it cannot go on; start a new run."
    )


def _new_journal(folder: RunFolder, layout: Layout) -> Journal:
    capacity_bytes = JOURNAL_BYTES_PER_REGION * len(durable_regions(layout)) + 4096
    create_journal(folder.journal, capacity_bytes=capacity_bytes)
    return Journal(folder.journal)


def _import(
    folder: RunFolder,
    files: ModelFiles | None,
    planning: Planning,
    arena: HostArena,
    store: DiskStore,
    slots: Slots,
    on_event: OnEvent,
) -> None:
    session, options = planning.session, folder.options
    source = None if files is None else open_weights(files)
    try:
        layers = session.layout.layers
        total = sum(layer.num_elements + layer.frozen_elements for layer in layers)
        with phase("import", on_event, total, "parameters"):
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


def _evaluate(
    planning: Planning, arena: HostArena, store: DiskStore, slots: Slots
) -> Callable[[], float] | None:
    evaluator = planning.evaluator
    return None if evaluator is None else lambda: evaluator.run(arena, store, slots)


def _result(
    inputs: Launch,
    planning: Planning,
    log: TrainLog,
    moved: StoreCounters,
    disk_bytes: int,
    seconds: float,
) -> TrainResult:
    session, num_new = planning.session, len(log.losses)
    predicted, prediction = _predicted(planning, log), session.prediction
    done = planning.steps.done or 0
    workload = session.layout.workload
    host_bytes = max(peak_resident_bytes(), inputs.launch_peak_bytes)
    return TrainResult(
        model=str(inputs.folder.options.model),
        method=inputs.folder.options.method,
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
        predicted_bytes_read=predicted.bytes_read,
        predicted_bytes_written=predicted.bytes_written,
        bytes_read=moved.bytes_read,
        bytes_written=moved.bytes_written,
        limited_by=prediction.limited_by,
        output=str(inputs.folder.path),
        resumed_from=done if inputs.resumed else None,
        interrupted=log.interrupted,
        seconds=seconds,
    )


def _predicted(planning: Planning, log: TrainLog) -> Piece:
    """Return what the plan says of what this process did: a run that was interrupted has done less
    than the totals of its plan say.
    """
    outline, done = planning.outline, planning.steps.done
    turns = count_turns(
        outline.pieces,
        done_steps=done,
        last_step=(done or 0) + len(log.losses),
        evaluation_steps=outline.options.evaluation_steps,
        commit_seconds=outline.options.commit_seconds,
    )
    return whole_run(outline.pieces, replace(turns, evaluations=log.num_evaluations))
