"""Moments in 8 bits: the same whatever the arena, and nearly as good as in 32."""

from pathlib import Path

import pytest
import torch
from harness import (
    TinyRun,
    make_options,
    make_rows,
    make_session,
    make_store,
    model_config,
)

from outsize.models.registry import build
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.runtime.slots import Slots, extent_name
from outsize.store.journal import Journal
from outsize.train.options import TrainOptions
from outsize.train.state_file import durable_regions


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stream(options: TrainOptions, folder: Path, arena: str = "least", steps: int = 4) -> TinyRun:
    model = build(model_config("Llama tied"), TORCH_DTYPES[options.dtype])
    session = make_session(model, options, arena=arena)
    run = TinyRun(
        session=session,
        options=options,
        rows=make_rows(folder / "rows"),
        num_steps=steps,
        folder=folder,
        store=make_store(session),
    )
    return run


def committed_bytes(run: TinyRun) -> dict[str, bytes]:
    layout, record = run.session.layout, Journal(run.folder / "journal.bin").latest()
    assert record is not None
    slots, found = Slots.from_record(record, durable_regions(layout)), {}
    for region in durable_regions(layout):
        view, version = memoryview(bytearray(layout.region_bytes[region])), slots.newest(region)
        extent = extent_name(region, version.slot)
        run.store.start_read(extent, view, version.checksum).wait()
        found[region] = bytes(view)
    return found


@pytest.mark.parametrize("optim", ["adamw_8bit", "lion_8bit"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_arena_changes_nothing(optim: str, dtype: str, tmp_path: Path) -> None:
    options, found = make_options(optim=optim, dtype=dtype), []
    for arena in ("least", "whole"):
        run = stream(options, tmp_path / arena, arena)
        found.append((run.train().losses, committed_bytes(run)))
    assert found[0] == found[1]
    assert len(found[0][1]) > 10


@pytest.mark.parametrize("optim", ["adamw_8bit", "lion_8bit"])
def test_a_run_that_stops_goes_on_to_the_same_state(optim: str, tmp_path: Path) -> None:
    whole = stream(make_options(optim=optim), tmp_path / "whole")
    whole.train()
    parts = stream(make_options(optim=optim), tmp_path / "parts")
    parts.train(stop_after=2)
    parts.train()
    assert committed_bytes(whole) == committed_bytes(parts)


def test_the_state_takes_six_bytes_and_five(tmp_path: Path) -> None:
    sizes = {}
    for optim in ("adamw_torch", "adamw_8bit", "lion_8bit"):
        model = build(model_config("Llama that is mostly table"), torch.float32)
        session = make_session(model, make_options(optim=optim), span_elements=2**20)
        sizes[optim] = session.layout.state_bytes / model.spec.num_elements
    assert sizes["adamw_8bit"] / sizes["adamw_torch"] < 6.3 / 12  # pages of a small model
    assert sizes["lion_8bit"] < sizes["adamw_8bit"] - 0.9


@pytest.mark.parametrize(("packed", "exact"), [("adamw_8bit", "adamw_torch")])
def test_it_learns_as_well_as_with_32_bits(packed: str, exact: str, tmp_path: Path) -> None:
    losses = []
    for optim in (packed, exact):
        options = make_options(optim=optim, learning_rate=3e-3)
        losses.append(stream(options, tmp_path / optim, "whole", steps=60).train().losses)
    first, last = losses[1][0], losses[1][-1]
    assert last < 0.9 * first
    assert losses[0][-1] == pytest.approx(last, rel=0.01)
