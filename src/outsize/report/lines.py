"""How a step and a phase look while they run: a small block on a terminal, one line in a file."""

from collections.abc import Sequence

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from outsize.quantities import format_bytes, format_rate, format_seconds
from outsize.report.sparkline import sparkline
from outsize.runtime.events import PhaseStarted, StepFinished

_BAR_WIDTH = 30
_SPARK_WIDTH = 30


def phase_line(phase: PhaseStarted, done: int) -> Table:
    """Draw a phase with its bar and what of it is done."""
    table = Table.grid(padding=(0, 2))
    table.add_column(width=10, no_wrap=True)
    table.add_column(width=_BAR_WIDTH)
    table.add_column(no_wrap=True)
    bar = ProgressBar(total=phase.total or 1, completed=done, width=_BAR_WIDTH)
    empty = Text("") if phase.total is None else bar
    table.add_row(phase.phase, empty, _amount(phase, done))
    return table


def _amount(phase: PhaseStarted, done: int) -> str:
    if phase.unit == "bytes":
        total = "" if phase.total is None else f" of {format_bytes(phase.total)}"
        return format_bytes(done) + total
    total = "" if phase.total is None else f" of {phase.total:,}"
    return f"{done:,}{total} {phase.unit}"


def live_step(
    done_steps: float,
    num_steps: int,
    remaining_s: float,
    last: StepFinished | None,
    losses: Sequence[float],
) -> Table:
    """Draw the lines that change while steps run: progress, then loss, memory and disk of the last
    one.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(width=10, no_wrap=True, style="dim")
    table.add_column(width=_BAR_WIDTH, no_wrap=True)
    table.add_column(no_wrap=True)
    steps = f"{int(done_steps)} of {num_steps}, {format_seconds(remaining_s)} left"
    table.add_row("step", _bar(done_steps, num_steps), steps)
    if last is not None:
        _add_last_step(table, last, losses)
    return table


def _add_last_step(table: Table, event: StepFinished, losses: Sequence[float]) -> None:
    rate = f"{event.loss:.4f}, {event.num_tokens / event.step_s:,.0f} tokens/s"
    table.add_row("loss", sparkline(losses, _SPARK_WIDTH), rate)
    memory = f"{format_bytes(event.host_bytes)} of {format_bytes(event.budget_bytes)}"
    table.add_row("memory", _bar(event.host_bytes, event.budget_bytes), memory)
    table.add_row("disk", _transfers(event), f"{format_seconds(event.step_s)} a step")


def _bar(done: float, total: int) -> ProgressBar:
    return ProgressBar(total=total, completed=min(done, total), width=_BAR_WIDTH)


def _transfers(event: StepFinished) -> str:
    read = format_rate(event.bytes_read / event.step_s)
    write = format_rate(event.bytes_written / event.step_s)
    return f"{read} read, {write} write"


def plain_step(event: StepFinished) -> str:
    """Write a step as one line, without control characters."""
    width = len(str(event.num_steps))
    parts = (
        f"step {event.step:>{width}}/{event.num_steps}",
        f"loss {event.loss:.4f}",
        f"{event.num_tokens / event.step_s:,.0f} tokens/s",
        f"memory {format_bytes(event.host_bytes)}",
        f"read {format_bytes(event.bytes_read)}",
        f"write {format_bytes(event.bytes_written)}",
        f"{format_seconds(event.remaining_s)} left",
    )
    return "  ".join(parts)
