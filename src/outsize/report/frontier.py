"""The frontier of a plan: the fastest plan at each memory size, as a table and as a picture."""

import os
import warnings
from pathlib import Path

from rich.console import Console
from rich.table import Table

from outsize.errors import UsageError
from outsize.quantities import format_bytes, format_seconds
from outsize.train.plan_result import FrontierPoint, PlanResult

_GIB = 2**30
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


def check_chart(path: Path) -> None:
    """Refuse a place for the picture that cannot be written, before anything is planned.

    Raises:
        UsageError: it is no PNG file in a folder that is there.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"--chart draws a PNG; name a file that ends in .png instead of {path}.")
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"--chart {path} cannot be written; name a file in a folder that exists.")


def draw_frontier(result: PlanResult, path: Path) -> None:
    """Draw tokens per second and traffic over memory.

    Raises:
        UsageError: the file cannot be written.

    Cost: imports Matplotlib, about 60 MiB of host memory.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    memory = [point.budget_bytes / _GIB for point in result.frontier]
    speed, traffic = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    speed.plot(memory, [p.tokens_per_s for p in result.frontier], marker="o", color="#1f5fa8")
    budget = result.budget_bytes.host / _GIB
    if memory[0] <= budget <= memory[-1]:
        speed.axvline(budget, color="#999999", linestyle=":", label=f"budget {budget:.3g} GiB")
        speed.legend(frameon=False)
    speed.set_ylabel("tokens/s")
    speed.set_ylim(0, 1.1 * max(p.tokens_per_s for p in result.frontier))
    title = f"{result.model} on {result.machine}: the fastest plan at each memory size"
    speed.set_title(title, parse_math=False)
    # The two are often the same: the thin line stays visible on the broad one.
    for name, color, width, values in (
        ("read", "#8ccfa8", 6, [p.bytes_read for p in result.frontier]),
        ("written", "#c8553d", 1.5, [p.bytes_written for p in result.frontier]),
    ):
        sizes = [v / _GIB for v in values]
        traffic.plot(memory, sizes, marker="o", color=color, linewidth=width, label=name)
    traffic.set_ylabel("GiB a step")
    traffic.set_xlabel("host memory, GiB")
    traffic.set_xscale("log", base=2)
    traffic.set_xticks(memory, [f"{value:.3g}" for value in memory])
    traffic.minorticks_off()
    most_bytes = max(max(p.bytes_read, p.bytes_written) for p in result.frontier)
    traffic.set_ylim(0, max(0.1, 1.1 * most_bytes / _GIB))
    traffic.legend(frameon=False)
    for axes in (speed, traffic):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a name that the font has no letters for
            figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"--chart {path} cannot be written: {error.strerror}.") from error
