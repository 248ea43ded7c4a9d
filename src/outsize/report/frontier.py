"""The frontier of a plan as a table, one line for each memory size; `train/chart.py` draws it."""

from rich.console import Console
from rich.table import Table

from outsize.quantities import format_bytes, format_seconds
from outsize.train.plan_result import FrontierPoint, PlanResult

_HEADINGS = ("memory", "host peak", "step", "tokens/s", "read", "written", "micro", "blocks")


def show_frontier(console: Console, result: PlanResult) -> None:
    """Print one line for each memory size, if there are any."""
    if not result.frontier:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for point in result.frontier:
        table.add_row(
            format_bytes(point.budget_bytes),
            format_bytes(point.host_bytes),
            format_seconds(point.step_s),
            f"{point.tokens_per_s:,.0f}",
            format_bytes(point.bytes_read),
            format_bytes(point.bytes_written),
            str(point.micro_batch_size),
            _blocks(point),
        )
    console.print()
    console.print(table)
    console.print("blocks: kept in memory / taken to disk / computed again", style="dim")


def _blocks(point: FrontierPoint) -> str:
    found = point.activations
    return f"{found.kept}/{found.offloaded}/{found.recomputed}"
