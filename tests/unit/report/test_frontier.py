"""The frontier as a table and as a PNG."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from outsize import api
from outsize.errors import UsageError
from outsize.plan.roles import Activations
from outsize.report.frontier import show_frontier
from outsize.results import TierBytes
from outsize.runtime.events import OnEvent, ignore
from outsize.train import foresee
from outsize.train.chart import check_chart, draw_frontier
from outsize.train.options import PlanOptions
from outsize.train.plan_result import FrontierPoint, PlanResult

GIB = 2**30


def point(number: int) -> FrontierPoint:
    return FrontierPoint(
        budget_bytes=number * GIB,
        host_bytes=number * GIB - 2**20,
        step_s=8.0 / number,
        tokens_per_s=512.0 * number,
        bytes_read=(8 - number) * GIB,
        bytes_written=(8 - number) * GIB // 2,
        micro_batch_size=3,
        activations=Activations(kept=number, offloaded=20 - number, recomputed=7),
    )


def result(*numbers: int, **changes: object) -> PlanResult:
    values: dict[str, object] = {
        "model": "my-model",
        "num_elements": 10**6,
        "machine": "laptop",
        "machine_from": "the catalogue",
        "layers_from": "",
        "objective": "time",
        "dtype": "bfloat16",
        "tokens_per_step": 4096,
        "micro_batch_size": 3,
        "num_micro_batches": 2,
        "max_seq_length": 512,
        "span_elements": 2**20,
        "activations": Activations(kept=1, offloaded=0, recomputed=0),
        "prefetch_bytes": 0,
        "budget_bytes": TierBytes(host=3 * GIB, disk=GIB),
        "predicted_peak_bytes": TierBytes(host=GIB, disk=GIB),
        "everything_bytes": 8 * GIB,
        "host_bytes": {},
        "disk_bytes": {},
        "predicted_step_s": 1.0,
        "predicted_tokens_per_s": 1.0,
        "predicted_compute_s": 1.0,
        "predicted_read_s": 0.0,
        "predicted_write_s": 0.0,
        "predicted_exposed_io_s": 0.0,
        "predicted_bytes_read": 0,
        "predicted_bytes_written": 0,
        "limited_by": "compute",
        "commits_every_step": False,
        "commit_seconds": 60.0,
        "total": None,
        "frontier": tuple(map(point, numbers)),
        "plan": "",
    }
    return PlanResult(**(values | {"num_trainable": 1} | changes))


def shown(found: PlanResult) -> list[str]:
    stream = io.StringIO()
    show_frontier(Console(file=stream, width=120, color_system=None), found)
    return stream.getvalue().splitlines()


def size_of(path: Path) -> tuple[int, int]:
    """Width and height by the header of a PNG."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content[12:16] == b"IHDR"
    assert content.rstrip().endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])


def test_each_memory_size_is_a_line() -> None:
    lines = shown(result(1, 4, 8))
    assert lines[1].split() == [
        "memory", "host", "peak", "step", "tokens/s", "read", "written", "micro", "blocks",
    ]  # fmt: skip
    assert lines[2].split()[:2] == ["1.00", "GiB"]
    assert len([line for line in lines if "/7" in line]) == 3
    assert lines[4].split()[-1] == "8/12/7"
    assert lines[4].split()[-6:-2] == ["0", "B", "0", "B"]
    assert lines[-1] == "blocks: kept in memory / taken to disk / computed again"


def test_without_points_nothing_is_shown() -> None:
    assert shown(result()) == []


@pytest.mark.parametrize("numbers", [(1, 2, 4, 8), (2, 3), (5,), (1, 2)])
def test_the_picture_is_a_png_of_a_sane_size(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    draw_frontier(result(*numbers), tmp_path / "x.png")
    width, height = size_of(tmp_path / "x.png")
    assert (width, height) == (1200, 750)
    assert 5_000 < (tmp_path / "x.png").stat().st_size < 500_000


@pytest.mark.parametrize("name", ["cost$5$", "$\\frac{$", "数据", "a_b^c", "x" * 300, "<b>[red]"])
def test_any_name_of_a_model_can_be_written(tmp_path: Path, name: str) -> None:
    draw_frontier(result(1, 2, model=name), tmp_path / "x.png")
    assert size_of(tmp_path / "x.png") == (1200, 750)


def test_the_budget_is_drawn_where_it_lies_on_the_picture(tmp_path: Path) -> None:
    inside, outside = result(1, 2, 4, 8), result(4, 5, 8)
    draw_frontier(inside, tmp_path / "inside.png")
    draw_frontier(outside, tmp_path / "outside.png")
    without = replace(inside, budget_bytes=TierBytes(host=9 * GIB, disk=GIB))
    draw_frontier(without, tmp_path / "without.png")
    content = (tmp_path / "inside.png").read_bytes()
    assert content != (tmp_path / "without.png").read_bytes()
    draw_frontier(inside, tmp_path / "again.png")
    assert content == (tmp_path / "again.png").read_bytes()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("x.svg", "--chart draws a PNG; name a file that ends in .png instead of "),
        ("png", "--chart draws a PNG"),
        ("none/x.png", "cannot be written; name a file in a folder that exists"),
        ("folder.png", "cannot be written; name a file in a folder that exists"),
        ("x" * 300 + ".png", "cannot be written; name a file in a folder that exists"),
    ):
        with pytest.raises(UsageError, match=message):
            check_chart(tmp_path / name)
    check_chart(tmp_path / "X.PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_disk_that_becomes_full_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to("/dev/full")
    with pytest.raises(UsageError, match=r"x.png cannot be written: No space left on device"):
        draw_frontier(result(1, 2), tmp_path / "x.png")


def test_the_function_draws_the_chart_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresee, "foresee", lambda options, on_event: result(1, 2, 4))
    asked = PlanOptions(model="m", chart=str(tmp_path / "x.png"), dry_run=True)
    assert api.plan(asked, ignore) == result(1, 2, 4)
    assert size_of(tmp_path / "x.png") == (1200, 750)


def test_a_place_for_the_chart_is_checked_before_anything_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: PlanOptions, on_event: OnEvent) -> PlanResult:
        raise AssertionError("planned")

    monkeypatch.setattr(foresee, "foresee", fail)
    for name in ("chart.jpg", "no/such/folder/chart.png"):
        with pytest.raises(UsageError, match="--chart"):
            api.plan(PlanOptions(model="m", chart=str(tmp_path / name), dry_run=True), ignore)
