"""The state file: a durable part that only the model decides, then scratch."""

from pathlib import Path

import pytest
from small_models import MACHINE, costs, least_bytes, make_layout

from outsize.errors import StorageError
from outsize.plan.actions import WriteBack
from outsize.plan.layout import is_durable
from outsize.plan.search import plan_train_step
from outsize.plan.step_plan import StepPlan
from outsize.store.store import Extent, layout_bytes
from outsize.train import state_file
from outsize.train.state_file import (
    all_extents,
    create_state,
    drop_scratch,
    durable_extents,
    durable_regions,
    plan_lists,
    reopen_state,
)

LAYOUT = make_layout(num_blocks=2, seq_length=100)
STATE_BYTES = 2 * LAYOUT.state_bytes


def make_plan(layout=LAYOUT, factor: float = 2.0) -> StepPlan:
    arena_bytes = int(factor * least_bytes(layout)) // 4096 * 4096
    return plan_train_step(layout, arena_bytes, MACHINE, costs(layout)).plan


def extents_of(factor: float) -> tuple[Extent, ...]:
    return all_extents(LAYOUT, plan_lists(make_plan(factor=factor)))


def test_every_durable_region_has_two_places():
    extents = durable_extents(LAYOUT)
    regions = durable_regions(LAYOUT)
    assert list(regions) == sorted(r for r in LAYOUT.region_bytes if is_durable(r))
    assert [e.name for e in extents] == [f"{r}@{slot}" for r in regions for slot in (0, 1)]
    assert all(e.size_bytes == LAYOUT.region_bytes[e.name.partition("@")[0]] for e in extents)
    assert layout_bytes(extents) == STATE_BYTES


@pytest.mark.parametrize("changes", [{"seq_length": 16}, {"clip": False}, {"num_micro_batches": 5}])
def test_the_durable_part_does_not_depend_on_the_workload(changes):
    other = make_layout(**{"num_blocks": 2, "seq_length": 100, **changes})
    assert durable_extents(other) == durable_extents(LAYOUT)
    assert durable_extents(make_layout(num_blocks=2, dtype="float32")) == durable_extents(LAYOUT)


def test_the_durable_part_comes_first_under_any_budget():
    durable = durable_extents(LAYOUT)
    small, large = extents_of(1.5), extents_of(100)
    assert small[: len(durable)] == large[: len(durable)] == durable
    assert len(small) > len(large) == len(durable)


def test_scratch_is_what_the_lists_write_besides():
    plan = make_plan(factor=1.5)
    extents = all_extents(LAYOUT, plan_lists(plan))
    scratch = [e.name for e in extents if "@" not in e.name]
    lists = (plan.prologue, plan.first, plan.steady, plan.commit, plan.flush)
    written = {a.region for actions in lists for a in actions if isinstance(a, WriteBack)}
    assert len(scratch) == len(set(scratch))
    assert set(scratch) == {region for region in written if not is_durable(region)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.bin"


def make_file(path: Path, factor: float = 1.5) -> None:
    create_state(path, extents_of(factor), ignore_notice).close()


def ignore_notice(text: str) -> None:
    assert "direct" in text


def test_a_new_file_has_all_its_space(path):
    make_file(path)
    assert path.stat().st_size == layout_bytes(extents_of(1.5)) > STATE_BYTES
    assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_scratch_goes_when_a_run_ends_and_comes_back_when_it_resumes(path):
    make_file(path)
    content = b"durable!" * 512
    with path.open("r+b") as file:
        file.write(content)
    drop_scratch(path, LAYOUT)
    assert path.stat().st_size == STATE_BYTES
    for factor in (1.5, 100, 2):
        reopen_state(path, LAYOUT, extents_of(factor), ignore_notice).close()
        assert path.stat().st_size == layout_bytes(extents_of(factor))
        assert path.read_bytes()[: len(content)] == content


def test_a_file_that_was_cut_is_refused_and_left_as_it_is(path):
    make_file(path)
    with path.open("r+b") as file:
        file.truncate(STATE_BYTES - 4096)
    with pytest.raises(StorageError, match="it was cut, or it belongs to another run"):
        reopen_state(path, LAYOUT, extents_of(1.5), ignore_notice)
    assert path.stat().st_size == STATE_BYTES - 4096


def test_a_file_that_is_missing_is_refused(path):
    with pytest.raises(StorageError, match=r"Opening .*state\.bin failed: No such file"):
        reopen_state(path, LAYOUT, extents_of(1.5), ignore_notice)
    assert not path.exists()


def test_a_disk_too_full_for_scratch_is_told_with_a_remedy(path, monkeypatch):
    make_file(path)
    drop_scratch(path, LAYOUT)

    def full(file: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_file.os, "posix_fallocate", full)
    with pytest.raises(StorageError) as caught:
        reopen_state(path, LAYOUT, extents_of(1.5), ignore_notice)
    assert str(caught.value).endswith(
        "on disk with this plan's scratch space: No space left on device.\n"
        "  Free some space, or resume with more --memory, which moves less."
    )
    assert path.stat().st_size == STATE_BYTES
