"""From a launch to a plan: what the run will do and what it will take, before a weight is read.

`outsize plan` ends here; `run.py` goes on.
"""

import math
from dataclasses import dataclass

import torch

from outsize.errors import BudgetError, Contributor, Remedy
from outsize.formats.check import check_files
from outsize.models.layered import LayeredModel
from outsize.models.registry import build
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.results import PlanResult, TierBytes
from outsize.runtime.events import OnEvent, Planned, phase
from outsize.store.store import Extent, layout_bytes
from outsize.train.data.rows import PackedRows
from outsize.train.evaluate import Evaluator
from outsize.train.explain import plan_rows
from outsize.train.launch import Launch, allocated_bytes, free_disk_bytes
from outsize.train.options import TrainOptions
from outsize.train.run_folder import RunFolder
from outsize.train.session import Session, plan_session
from outsize.train.state_file import all_extents, durable_regions, plan_lists
from outsize.train.trainer import read_batch

JOURNAL_BYTES_PER_REGION = 24
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
    commit_seconds: float
    predicted_peak_bytes: TierBytes


def plan_run(inputs: Launch, on_event: OnEvent, own_model: LayeredModel | None = None) -> Planning:
    """Import libraries, profile the layers and plan the step; loads no weights.

    Raises:
        OutsizeError: the options, the model or the budgets do not allow the run.
    """
    options = inputs.folder.options
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = own_model or build(inputs.folder.model, TORCH_DTYPES[options.dtype])
    if inputs.files is not None:
        check_files(inputs.files, model.spec, str(options.model))
    rows = PackedRows(inputs.folder.data)
    with phase("profile", on_event):
        session = plan_session(
            model,
            options,
            lambda count: read_batch(rows, [index % rows.num_rows for index in range(count)]),
            machine=inputs.machine.lanes,
            budget_bytes=inputs.host_budget_bytes,
            disk_bytes=inputs.disk_budget_bytes - _other_disk_bytes(inputs.folder),
            floor_bytes=inputs.launch_peak_bytes,
            chosen_span=inputs.folder.span_elements,
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
        commit_seconds=options.commit_seconds,
        predicted_peak_bytes=_predicted_bytes(session, extents, inputs.folder),
    )
    _check_disk(planning, inputs)
    on_event(Planned(rows=_rows(planning, inputs)))
    return planning


def _evaluator(session: Session, folder: RunFolder) -> Evaluator | None:
    options = folder.options
    if options.evaluation_data is not None:
        return Evaluator(session, PackedRows(folder.evaluation_data))
    if options.evaluation_fraction:
        return Evaluator(session, PackedRows(folder.data / "evaluation"))
    return None


def _num_steps(options: TrainOptions, num_rows: int, session: Session) -> int:
    if options.steps is not None:
        return options.steps
    rows = (options.epochs if options.epochs is not None else 1.0) * num_rows
    return max(1, math.ceil(rows / session.layout.workload.rows_per_step))


def _predicted_bytes(session: Session, extents: tuple[Extent, ...], folder: RunFolder) -> TierBytes:
    num_regions = len(durable_regions(session.layout))
    journal_bytes = 2 * (JOURNAL_BYTES_PER_REGION * num_regions + 8192) + 4096
    disk_bytes = layout_bytes(extents) + journal_bytes + _other_disk_bytes(folder)
    return TierBytes(host=session.predicted_host_bytes, disk=disk_bytes)


def _other_disk_bytes(folder: RunFolder) -> int:
    """Bytes of the run folder besides state file and journal."""
    prepared_bytes = sum(
        allocated_bytes(path) for path in (folder.model, folder.data, folder.evaluation_data)
    )
    return prepared_bytes + _SMALL_FILES_BYTES


def _check_disk(planning: Planning, inputs: Launch) -> None:
    needed_bytes = planning.predicted_peak_bytes.disk
    if needed_bytes <= inputs.disk_budget_bytes:
        return
    state_bytes = planning.session.layout.state_bytes
    remedies = [
        Remedy(change="--output DIR on a disk with as much free", needed_bytes=needed_bytes)
    ]
    if needed_bytes <= free_disk_bytes(inputs.folder.path):
        gib = math.ceil(needed_bytes / 2**30 * 10) / 10
        remedies.insert(0, Remedy(change=f"--disk {gib}GiB", needed_bytes=needed_bytes))
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
        remedies=tuple(remedies),
    )


def _rows(planning: Planning, inputs: Launch) -> tuple[tuple[str, str], ...]:
    return plan_rows(
        planning.session,
        model=str(inputs.folder.options.model),
        num_steps=planning.num_steps,
        commit_seconds=planning.commit_seconds,
        predicted=planning.predicted_peak_bytes,
        budget=TierBytes(host=inputs.host_budget_bytes, disk=inputs.disk_budget_bytes),
    )


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
        rows=_rows(planning, inputs),
        plan=planning.session.planned.plan.to_text(),
    )
