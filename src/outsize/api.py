"""The verbs: each takes its options and returns its result, as the command line does.

Nothing heavy is imported before a verb has checked what it can check without.
"""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from outsize.infer.model import OpenModel, prepared
from outsize.options import (
    ExportOptions,
    GenerateOptions,
    MachinesOptions,
    MergeOptions,
    ProbeOptions,
    VerifyOptions,
)
from outsize.paths import user_path
from outsize.results import ExportResult, GenerateResult, MergeResult, TrainResult, VerifyResult
from outsize.runtime.events import Notice, OnEvent
from outsize.store.heap import keep_heap_pages
from outsize.train.budgets import host_budget_bytes
from outsize.train.launch import launch
from outsize.train.options import PlanOptions, TrainOptions

if TYPE_CHECKING:
    from outsize.machines.listing import MachinesResult
    from outsize.models.layered import LayeredModel
    from outsize.probe.result import ProbeResult
    from outsize.train.plan_result import PlanResult


def train(
    options: TrainOptions, on_event: OnEvent, own_model: "LayeredModel | None" = None
) -> TrainResult:
    """Train or resume; see `TrainOptions`. A model of the caller's own stands for `options.model`.

    Raises:
        OutsizeError: nothing is lost and nothing is half written.
    """
    start_s = time.monotonic()
    keep_heap_pages()
    with launch(options, on_event, own_model=own_model is not None) as inputs:
        from outsize.train.run import run_training

        return run_training(inputs, on_event, start_s, own_model)


def plan(options: PlanOptions, on_event: OnEvent) -> "PlanResult":
    """Plan and predict from headers; loads no weights and no library, leaves nothing on disk but
    the chart that was asked for.

    Raises:
        OutsizeError: the run would be refused for the same reason.
    """
    from outsize.train.chart import check_chart, draw_frontier
    from outsize.train.foresee import foresee

    chart = None if options.chart is None else user_path(options.chart)
    if chart is not None:
        check_chart(chart)
    result = foresee(options, on_event)
    if chart is not None:
        draw_frontier(result, chart)
    return result


def dry_run(
    options: TrainOptions, on_event: OnEvent, own_model: "LayeredModel | None" = None
) -> "PlanResult":
    """Do everything of a run that comes before its weights are loaded; leaves nothing on disk.

    Raises:
        OutsizeError: the run would be refused for the same reason.
    """
    keep_heap_pages()
    with launch(options, on_event, own_model=own_model is not None) as inputs:
        from outsize.train.describe import describe
        from outsize.train.planning import plan_run

        return describe(plan_run(inputs, on_event, own_model).outline)


def verify(options: VerifyOptions, on_event: OnEvent) -> VerifyResult:
    """Train the model twice, streamed and in plain PyTorch, and compare every number.

    Raises:
        OutsizeError: the model, the budget or the disk does not allow it.
    """
    from outsize.train.verify.verify import run_verify

    return run_verify(options, on_event)


def export(options: ExportOptions, on_event: OnEvent) -> ExportResult:
    """Write the last commit of a run as a folder that Transformers loads.

    Raises:
        OutsizeError: the run, the output, the budget or the disk does not allow it.
    """
    start_s = time.monotonic()
    keep_heap_pages()
    from outsize.train.export import run_export

    return run_export(options, on_event, start_s)


def merge(options: MergeOptions, on_event: OnEvent) -> MergeResult:
    """Write a model with adapters merged into its weights as a folder that Transformers loads.

    Raises:
        OutsizeError: the adapters, the model, the output, the budget or the disk does not allow it.
    """
    start_s = time.monotonic()
    keep_heap_pages()
    from outsize.train.merge import run_merge

    return run_merge(options, on_event, start_s)


def generate(options: GenerateOptions, on_event: OnEvent) -> GenerateResult:
    """Continue or answer a prompt with a model, or with what a run has committed.

    Raises:
        OutsizeError: the model, the prompt or the budget does not allow it.
    """
    start_s = time.monotonic()
    keep_heap_pages()
    budget_bytes = host_budget_bytes(options.memory_bytes)
    with _opened(options.model, on_event) as model:
        from outsize.infer.generate import run_generate

        return run_generate(options, model, budget_bytes, on_event, start_s)


def probe(options: ProbeOptions, on_event: OnEvent) -> "ProbeResult":
    """Measure this machine and keep its profile for every run.

    Raises:
        OutsizeError: the folder, its disk or the place for the profile does not allow it.
    """
    from outsize.probe.run import run_probe

    return run_probe(options, on_event)


def machines(options: MachinesOptions) -> "MachinesResult":
    """List the machines of the catalogue, or describe one.

    Raises:
        OutsizeError: there is no such machine, or its profile file cannot be read.
    """
    from outsize.machines.listing import describe_machine, list_machines

    return list_machines() if options.name is None else describe_machine(options.name)


@contextmanager
def _opened(name: str, on_event: OnEvent) -> Iterator[OpenModel]:
    """Open a model, the committed weights of a run folder, or adapters with their model."""
    from outsize.train.committed import CommittedWeights, is_run
    from outsize.train.merge_source import has_adapters

    path = Path(name)
    if has_adapters(path):
        with _merged(name, on_event) as model:
            yield model
        return
    if not is_run(path):
        with prepared(name, on_event) as model:
            yield model
        return
    with closing(CommittedWeights(path, lambda text: on_event(Notice(text=text)))) as weights:
        yield OpenModel(name=name, folder=path / "model", source=weights, preparation_bytes=0)


@contextmanager
def _merged(name: str, on_event: OnEvent) -> Iterator[OpenModel]:
    """Open adapters with the model that they name."""
    from outsize.train.merged import open_merged

    with closing(open_merged(name, None, on_event)) as merged:
        folder = merged.adapters.prepared
        if folder is not None:
            yield OpenModel(
                name=name,
                folder=folder,
                source=merged.weights,
                preparation_bytes=0,
                reading_bytes=merged.weights.reading_bytes,
            )
            return
        with prepared(merged.model, on_event) as model:
            yield dataclasses.replace(
                model,
                name=name,
                source=merged.weights,
                reading_bytes=merged.weights.reading_bytes,
            )
