"""The frontier of a plan as a picture; `report/frontier.py` shows it as a table."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from outsize.errors import UsageError
from outsize.paths import can_write_file
from outsize.train.plan_result import PlanResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GIB = 2**30


def check_chart(path: Path) -> None:
    """Refuse a place for the picture that cannot be written, before anything is planned.

    Raises:
        UsageError: it is no PNG file in a folder that is there.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"--chart draws a PNG; name a file that ends in .png instead of {path}.")
    if not can_write_file(path):
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
    best = "that writes least" if result.objective == "writes" else "that is fastest"
    title = f"{result.model} on {result.machine}: the plan {best} at each memory size"
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
    _save(figure, path)


def _save(figure: "Figure", path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a name that the font has no letters for
            figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"--chart {path} cannot be written: {error.strerror}.") from error
