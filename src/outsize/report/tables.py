"""The tables that close each verb: predicted beside measured, and the verdicts."""

import math
import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from outsize.environment import EnvironmentResult
from outsize.quantities import format_bytes, format_seconds
from outsize.report.sparkline import sparkline
from outsize.report.terminal import rows_table
from outsize.results import (
    ExportResult,
    GenerateResult,
    MergeResult,
    TrainResult,
    VerifyCase,
    VerifyResult,
)

_SPARK_WIDTH = 40


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(headings[0], no_wrap=True, style="dim")
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def show_train(console: Console, result: TrainResult, losses: Sequence[float]) -> None:
    """Print predicted beside measured, the way of the loss, and where the run is."""
    console.print()
    console.print(predicted_beside_measured(result))
    console.print()
    if losses:
        console.print(Text(f"loss    {_loss(result)}  {sparkline(losses, _SPARK_WIDTH)}"))
    rows = [("steps", _steps(result)), ("time", format_seconds(result.seconds))]
    rows.append(("limit", f"{result.limited_by} decides the time of a step"))
    rows.append(("output", result.output))
    console.print(rows_table(tuple(rows), console.width))
    if result.interrupted:
        console.print(
            f"Interrupted after step {result.steps}, which is committed. Go on with:\n"
            f"  outsize train --resume {shlex.quote(result.output)}",
            markup=False,
        )


def _loss(result: TrainResult) -> str:
    text = f"{result.loss_first:.4f} to {result.loss_last:.4f}"
    if result.evaluation_loss is not None:
        text += f", evaluation {result.evaluation_loss:.4f}"
    return text


def _steps(result: TrainResult) -> str:
    text = f"{result.steps}, {result.tokens:,} tokens"
    return text if result.resumed_from is None else f"{text}, resumed after {result.resumed_from}"


def predicted_beside_measured(result: TrainResult) -> Table:
    """Lay out every prediction beside its measurement, with the budget where there is one."""
    table = _table("", "predicted", "measured", "budget")
    predicted, measured = result.predicted_peak_bytes, result.measured_peak_bytes
    budget = result.budget_bytes
    num_steps = max(1, result.steps - (result.resumed_from or 0))
    predicted_rate = result.tokens / num_steps / result.predicted_step_s
    for label, plan, real, limit in (
        ("host peak", *map(format_bytes, (predicted.host, measured.host, budget.host))),
        ("disk peak", *map(format_bytes, (predicted.disk, measured.disk, budget.disk))),
        ("step time", *_seconds(result.predicted_step_s, result.measured_step_s), ""),
        ("exposed I/O", *_seconds(result.predicted_exposed_io_s, result.exposed_io_s), ""),
        ("bytes read", *_bytes(result.predicted_bytes_read, result.bytes_read), ""),
        ("bytes written", *_bytes(result.predicted_bytes_written, result.bytes_written), ""),
        ("tokens/s", f"{predicted_rate:,.0f}", f"{result.tokens_per_s:,.0f}", ""),
    ):
        table.add_row(label, plan, real, limit)
    return table


def _seconds(predicted: float, measured: float) -> tuple[str, str]:
    return format_seconds(predicted), format_seconds(measured)


def _bytes(predicted: int, measured: int) -> tuple[str, str]:
    return format_bytes(predicted), format_bytes(measured)


def show_verify(console: Console, result: VerifyResult) -> None:
    """Print every case with its largest differences, then the verdict."""
    table = _table("dtype", "clip", "micro", "weights", "exp_avg", "exp_avg_sq", "losses", "equal")
    table.title = "largest differences from plain PyTorch"
    table.title_justify, table.title_style = "left", ""
    for case in result.cases:
        clip, equal = "yes" if case.clip else "no", "yes" if case.equal else "NO"
        table.add_row(case.dtype, clip, str(case.accumulation), *_differences(case), equal)
    console.print()
    console.print(table)
    size = f"{result.num_elements:,} parameters in {result.num_layers} layers"
    if result.num_layers < result.num_layers_model:
        size += f" of {result.num_layers_model}"
    verdict = "bit for bit equal to" if result.equal else "DIFFERENT from"
    console.print(f"\n{size}, {result.steps} steps: {verdict} plain PyTorch.", markup=False)
    streamed = format_bytes(max(case.streamed_peak_bytes for case in result.cases))
    plain = format_bytes(max(case.plain_peak_bytes for case in result.cases))
    console.print(
        f"Host peak {streamed} of {format_bytes(result.budget_bytes.host)}; plain PyTorch {plain}."
    )


def _differences(case: VerifyCase) -> tuple[str, ...]:
    values = (
        case.max_difference_weights,
        case.max_difference_exp_avg,
        case.max_difference_exp_avg_sq,
        case.max_difference_losses,
    )
    return tuple("0" if v == 0 else f"{v:.2g}" if math.isfinite(v) else "nan" for v in values)


def show_export(console: Console, result: ExportResult) -> None:
    """Print what was written and where."""
    rows = (
        ("written", f"{result.num_elements:,} parameters, {result.dtype}, {result.format}"),
        ("from step", str(result.step)),
        ("size", f"{format_bytes(result.bytes_written)} in {result.num_files} weight files"),
        ("host peak", _peak(result.measured_peak_bytes.host, result.budget_bytes.host)),
        ("time", format_seconds(result.seconds)),
        ("output", result.output),
    )
    console.print(rows_table(rows, console.width))


def show_merge(console: Console, result: MergeResult) -> None:
    """Print what was written and where."""
    rows = (
        ("written", f"{result.num_elements:,} parameters, {result.dtype}, safetensors"),
        ("merged", f"adapters of {result.num_merged:,} matrices into {result.model}"),
        ("size", f"{format_bytes(result.bytes_written)} in {result.num_files} weight files"),
        ("host peak", _peak(result.measured_peak_bytes.host, result.budget_bytes.host)),
        ("time", format_seconds(result.seconds)),
        ("output", result.output),
    )
    console.print(rows_table(rows, console.width))


def show_generate(console: Console, result: GenerateResult) -> None:
    """End the answer, which was printed as it came, and say what it took."""
    console.print("\n")
    rows = (
        ("tokens", f"{result.num_prompt_tokens} read, {result.num_new_tokens} written"),
        ("rate", f"{result.tokens_per_s:.3g} tokens/s"),
        ("host peak", _peak(result.measured_peak_bytes.host, result.budget_bytes.host)),
    )
    console.print(rows_table(rows, console.width))


def _peak(measured_bytes: int, budget_bytes: int) -> str:
    return f"{format_bytes(measured_bytes)} of {format_bytes(budget_bytes)}"


def show_environment(console: Console, result: EnvironmentResult) -> None:
    """Print the machine and the versions."""
    limit = result.memory_limit_bytes
    rows = [
        ("system", result.system),
        ("processor", f"{result.processor}, {result.num_usable_cores} of {result.num_cores} cores"),
        (
            "memory",
            f"{format_bytes(result.memory_bytes)}, {format_bytes(result.memory_free_bytes)} free",
        ),
        ("container", "no memory limit" if limit is None else f"limit {format_bytes(limit)}"),
        ("folder", result.folder),
        ("disk", f"{result.file_system or 'unknown'}, {format_bytes(result.disk_free_bytes)} free"),
        ("direct I/O", "works" if result.direct_io else "does not work"),
    ]
    rows += [("device", device) for device in result.devices]
    rows.append(("python", result.python))
    rows += [(name, version or "not installed") for name, version in result.versions.items()]
    console.print(rows_table(tuple(rows), console.width))
