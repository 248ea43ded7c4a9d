"""From a launch to a plan: what the run will do and what it will take, before a weight is read.

`outsize plan` ends here; `run.py` goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from outsize.errors import DataError, UsageError
from outsize.formats.check import check_files
from outsize.models.layered import Batch, LayeredModel
from outsize.models.registry import build
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.plan.actions import Action
from outsize.plan.choose import Choice
from outsize.plan.whole_run import pieces_of_plan
from outsize.results import TierBytes
from outsize.runtime.events import OnEvent, Planned, phase
from outsize.store.store import Extent
from outsize.train.adapter import adapter_settings, packing
from outsize.train.budgets import allocated_bytes, disk_refusal, free_disk_bytes
from outsize.train.data.rows import PackedRows
from outsize.train.data.sampler import StepSampler
from outsize.train.describe import Outline, describe, disk_roles
from outsize.train.evaluate import Evaluator
from outsize.train.explain import plan_rows
from outsize.train.fit import candidate
from outsize.train.launch import Launch
from outsize.train.run_folder import RunFolder, committed_step
from outsize.train.session import Session, plan_session
from outsize.train.state_file import all_extents, plan_lists
from outsize.train.totals import Steps, evaluation_passes, steps_of_rows
from outsize.train.trainer import read_batch

_SAMPLE_BATCHES = 2
"""Micro-batches that the layers are measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """A planned run: the session, the rows, and what it will take on disk."""

    session: Session
    rows: PackedRows
    evaluator: Evaluator | None
    extents: tuple[Extent, ...]
    steps: Steps
    outline: Outline

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps.count

    @property
    def predicted_peak_bytes(self) -> TierBytes:
        """The most that the run takes on each tier."""
        outline = self.outline
        return TierBytes(host=outline.predicted_host_bytes, disk=sum(outline.disk_bytes.values()))


def plan_run(inputs: Launch, on_event: OnEvent, own_model: LayeredModel | None = None) -> Planning:
    """Import libraries, profile the layers and plan the step; loads no weights.

    Raises:
        OutsizeError: the options, the model or the budgets do not allow the run.
    """
    options = inputs.folder.options
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = _model(inputs.folder, own_model)
    if inputs.files is not None:
        check_files(inputs.files, model.spec, str(options.model))
    rows = PackedRows(inputs.folder.data)
    _check_vocabulary(rows, model)
    with phase("profile", on_event):
        session = plan_session(
            model,
            options,
            lambda count: _first_batches(rows, count, options.seed),
            machine=inputs.machine,
            budget_bytes=inputs.host_budget_bytes,
            disk_bytes=inputs.disk_budget_bytes - sum(_other_disk_bytes(inputs.folder).values()),
            floor_bytes=inputs.launch_peak_bytes,
            chosen_span=inputs.folder.span_elements,
        )
    evaluator = _evaluator(session, inputs.folder)
    lists = [*plan_lists(session.planned.plan)]
    if evaluator is not None:
        lists.append(tuple(evaluator.actions))
    rows_per_step = session.layout.workload.rows_per_step
    steps = _steps(inputs, rows.num_rows, evaluator, rows_per_step)
    planning = Planning(
        session=session,
        rows=rows,
        evaluator=evaluator,
        extents=all_extents(session.layout, lists),
        steps=steps,
        outline=_outline(session, inputs, lists, steps, evaluator),
    )
    _check_disk(planning, inputs)
    on_event(Planned(rows=plan_rows(describe(planning.outline))))
    return planning


def _model(folder: RunFolder, own_model: LayeredModel | None) -> LayeredModel:
    options = folder.options
    if own_model is not None:
        if options.has_adapters:
            raise UsageError(f"--method {options.method} is not for layers of your own.")
        return own_model
    return build(
        folder.model,
        TORCH_DTYPES[options.dtype],
        options.packed_attention,
        adapter_settings(options),
        packing(options),
    )


def _check_vocabulary(rows: PackedRows, model: LayeredModel) -> None:
    largest, size = rows.info.max_token_id, model.spec.vocab_size
    if model.token_table is not None and largest >= size:
        raise DataError(
            f"The data has token {largest}, and the model knows tokens up to {size - 1}: the "
            "tokenizer belongs to another model. Leave --tokenizer out, or name one with fewer "
            "tokens."
        )


def _first_batches(rows: PackedRows, count: int, seed: int) -> list[Batch]:
    """Return the first micro-batches of the run."""
    sampler = StepSampler(rows.num_rows, count, seed)
    return [read_batch(rows, sampler.rows(index)) for index in range(_SAMPLE_BATCHES)]


def _evaluator(session: Session, folder: RunFolder) -> Evaluator | None:
    options = folder.options
    if options.evaluation_data is not None:
        return Evaluator(session, PackedRows(folder.evaluation_data))
    if options.evaluation_fraction:
        return Evaluator(session, PackedRows(folder.data / "evaluation"))
    return None


def _steps(inputs: Launch, num_rows: int, evaluator: Evaluator | None, rows_per_step: int) -> Steps:
    folder, options = inputs.folder, inputs.folder.options
    count, known_from = options.steps, "asked for"
    if count is None:
        count = steps_of_rows(options, num_rows, rows_per_step)
        known_from = f"{num_rows:,} rows of data"
    return Steps(
        count=count,
        known_from=known_from,
        done=committed_step(folder.path) if inputs.resumed else None,
        evaluation_rows=0 if evaluator is None else evaluator.num_rows,
    )


def _outline(
    session: Session,
    inputs: Launch,
    lists: Sequence[Sequence[Action]],
    steps: Steps,
    evaluator: Evaluator | None,
) -> Outline:
    options = inputs.folder.options
    one = candidate(session.layout, session.profile, options)
    return Outline(
        options=options,
        machine=inputs.machine,
        profile=session.profile,
        choice=Choice(
            candidate=one,
            planned=session.planned,
            budget_bytes=session.budget_bytes,
        ),
        budget_bytes=TierBytes(host=inputs.host_budget_bytes, disk=inputs.disk_budget_bytes),
        predicted_host_bytes=session.predicted_host_bytes,
        disk_bytes=disk_roles(session.layout, lists, _other_disk_bytes(inputs.folder)),
        steps=steps,
        pieces=pieces_of_plan(
            session.planned,
            session.layout,
            session.machine,
            one.costs,
            None if evaluator is None else evaluator.actions,
            evaluation_passes(steps, session.layout.workload),
        ),
    )


def _other_disk_bytes(folder: RunFolder) -> dict[str, int]:
    """Bytes of what was prepared in the run folder."""
    paths = (folder.model, folder.data, folder.evaluation_data)
    return {"tokenizer and data": sum(allocated_bytes(path) for path in paths)}


def _check_disk(planning: Planning, inputs: Launch) -> None:
    disk_bytes = planning.outline.disk_bytes
    if sum(disk_bytes.values()) <= inputs.disk_budget_bytes:
        return
    raise disk_refusal(
        f"Training {inputs.folder.options.model} in {inputs.folder.path}",
        disk_bytes,
        inputs.disk_budget_bytes,
        free_disk_bytes(inputs.folder.path),
        resumed=inputs.resumed,
    )
