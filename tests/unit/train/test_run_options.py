"""A run that goes on keeps the micro-batch and the span that were chosen when it began."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from decoders import make_candidate, make_decoder

import outsize
from outsize.errors import RunError, UsageError
from outsize.plan.layout import Layout
from outsize.store.journal import Journal, create_journal
from outsize.train.committed import read_layout
from outsize.train.fit import make_layouts
from outsize.train.options import TrainOptions
from outsize.train.plan_result import Totals
from outsize.train.run_folder import RunFolder, merged_options, read_options, span_of_run
from tiny_llama import CONFIG

MODEL = make_decoder(num_blocks=2)
SPAN = 2**17


def layout_of(micro_batch_rows: int) -> Layout:
    layout = make_candidate(MODEL, rows_per_step=8, seq_length=64).layout
    return replace(
        layout,
        workload=replace(layout.workload, micro_batch_rows=micro_batch_rows),
        span_elements=SPAN,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose planner chose two rows, though eight would be preferred."""
    path = tmp_path / "run"
    options = TrainOptions(
        model="my-model", data="d", tokens_per_step=512, max_seq_length=64, given=frozenset()
    )
    folder = RunFolder.create(path, options)
    assert folder.span_elements is None
    folder.start({"num_steps": 3, "layout": asdict(layout_of(2))})
    folder.close()
    (path / "model").mkdir()
    (path / "model" / "config.json").write_text(json.dumps(CONFIG))
    return path


def asked(run: Path, **changes: object) -> TrainOptions:
    return TrainOptions(resume=str(run), given=frozenset({"resume", *changes}), **changes)


def test_the_micro_batch_and_the_span_are_those_of_the_run(run: Path) -> None:
    assert read_options(run).micro_batch_size == 2
    assert span_of_run(run) == SPAN
    merged = merged_options(run, asked(run))
    assert (merged.micro_batch_size, merged.model, merged.tokens_per_step) == (2, "my-model", 512)
    (layout,) = make_layouts(merged, MODEL, chosen_span=span_of_run(run))
    assert (layout.workload.micro_batch_rows, layout.span_elements) == (2, SPAN)
    free = replace(merged, micro_batch_size=None)
    assert [one.workload.micro_batch_rows for one in make_layouts(free, MODEL)] == [8, 4, 2, 1]


def test_the_opened_folder_knows_its_span(run: Path) -> None:
    folder = RunFolder.open(run, asked(run))
    assert folder.span_elements == SPAN
    assert folder.options.micro_batch_size == 2
    folder.close()


def test_a_run_of_a_version_that_had_adamw_alone_is_read_as_that(run: Path) -> None:
    content = json.loads((run / "run.json").read_text())
    for key in ("optim", "sgd_momentum"):
        del content["options"][key]
    for key in ("optimizer", "num_moments"):
        del content["layout"]["workload"][key]
    (run / "run.json").write_text(json.dumps(content))
    assert merged_options(run, asked(run, optim="adamw_torch")).optim == "adamw_torch"
    assert read_layout(run) == layout_of(2)


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_a_folder_without_a_run_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"holds no run .*; --resume names the folder"):
        RunFolder.open(tmp_path / name, asked(tmp_path / name))
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_another_micro_batch_is_refused(run: Path, rows: int) -> None:
    with pytest.raises(RunError) as caught:
        merged_options(run, asked(run, micro_batch_size=rows))
    assert f"micro_batch_size: the run has 2, asked is {rows}" in str(caught.value)
    assert "Leave them out to go on as it was" in str(caught.value)


def test_the_same_micro_batch_is_accepted(run: Path) -> None:
    assert merged_options(run, asked(run, micro_batch_size=2)).micro_batch_size == 2


def test_what_changes_no_number_may_change(run: Path) -> None:
    changes = {
        "memory_bytes": 2**31,
        "objective": "writes",
        "activations": "keep",
        "threads": 1,
        "commit_seconds": 5.0,
    }
    merged = merged_options(run, asked(run, **changes))
    assert {name: getattr(merged, name) for name in changes} == changes
    assert merged.micro_batch_size == 2
    with pytest.raises(RunError, match=r"learning_rate: the run has 0.0001, asked is 0.5"):
        merged_options(run, asked(run, learning_rate=0.5, memory_bytes=2**31))


def test_a_plan_of_a_run_that_goes_on_has_its_shape(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for more in ({}, {"micro_batch_size": 2}, {"activations": "recompute", "memory": "1GiB"}):
        found = outsize.plan(resume=str(run), machine="laptop", **more)
        assert (found.micro_batch_size, found.num_micro_batches) == (2, 4)
        assert found.span_elements == SPAN
        # The data that it began with are gone, and are not looked for.
        assert found.total is not None
        assert (found.total.steps, found.total.steps_from) == (3, "as the run began")
    assert found.activations.recomputed == 2
    with pytest.raises(RunError, match="the run has 2, asked is 4"):
        outsize.plan(resume=str(run), machine="laptop", micro_batch_size=4)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def commit(run: Path, step: int) -> None:
    path = run / "journal.bin"
    if not path.exists():
        create_journal(path, capacity_bytes=4096)
    Journal(path).append({"step": step})


def total_of(run: Path) -> Totals:
    found = outsize.plan(resume=str(run), machine="laptop").total
    assert found is not None
    return found


def test_a_plan_of_a_run_that_goes_on_counts_what_is_left(run: Path) -> None:
    """All of it stays in memory: the state is written when it is made, and at the end."""
    whole = total_of(run)
    commit(run, 0)
    imported = total_of(run)
    commit(run, 2)
    rest = total_of(run)
    assert (whole.steps, imported.steps, rest.steps) == (3, 3, 1)
    assert (rest.done_steps, rest.steps_from) == (2, "2 of 3 are done")
    assert whole.bytes_written == 2 * imported.bytes_written == 2 * rest.bytes_written > 0
    assert whole.bytes_read == imported.bytes_read == rest.bytes_read > 0
    assert rest.seconds < imported.seconds < whole.seconds
    commit(run, 3)
    nothing = total_of(run)
    assert (nothing.steps, nothing.bytes_read, nothing.bytes_written) == (0, 0, 0)


def test_a_plan_of_a_run_that_lost_its_journal_is_refused(run: Path) -> None:
    (run / "metrics.jsonl").touch()
    with pytest.raises(RunError, match="has lost its journal"):
        total_of(run)


def test_a_plan_says_which_folder_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run \(there is no run.json in it\)"):
        outsize.plan(resume=str(tmp_path))
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run.json is damaged"):
        outsize.plan(resume=str(tmp_path))
    with pytest.raises(UsageError, match="model is missing"):
        outsize.plan()


@pytest.mark.parametrize(
    "part",
    ["layout", "options", "given", "workload", "micro_batch_rows", "span_elements", "num_steps"],
)
def test_a_run_that_lost_a_part_of_itself_is_refused(run: Path, part: str) -> None:
    content = json.loads((run / "run.json").read_bytes())
    for holder in (content, content["options"], content["layout"], content["layout"]["workload"]):
        holder.pop(part, None)
    (run / "run.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"does not say how the run was started"):
        outsize.plan(resume=str(run), machine="laptop")


def test_a_run_from_before_there_were_methods_trains_the_whole(run: Path) -> None:
    content = json.loads((run / "run.json").read_text())
    for name in [n for n in content["options"] if n.startswith(("method", "lora", "quant"))]:
        del content["options"][name]
    (run / "run.json").write_text(json.dumps(content))
    assert read_options(run).method == "full"
    merged = merged_options(run, asked(run, method="full"))
    assert (merged.method, merged.has_adapters) == ("full", False)
    with pytest.raises(RunError, match="method: the run has 'full', asked is 'lora'"):
        merged_options(run, asked(run, method="lora"))
