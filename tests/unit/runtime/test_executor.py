"""The loop: what it starts, what it waits for, and what an error leaves behind."""

import threading
from types import SimpleNamespace

import pytest
from fake_training import HashingKernels, LateStore, Reference, Run
from small_models import MACHINE, costs, least_bytes, make_layout

from outsize.errors import StorageError
from outsize.plan.actions import Acquire, Compute, Fetch, Release, Update, WriteBack
from outsize.plan.search import plan_train_step
from outsize.runtime import executor as executor_module
from outsize.store.failing import FailingStore, Failure

LAYOUT = make_layout(span_elements=1024, num_blocks=1, seq_length=100)
PLANNED = plan_train_step(LAYOUT, 2 * least_bytes(LAYOUT), MACHINE, costs(LAYOUT))
RUN = ("prologue", "first", "steady", "commit", "steady", "flush")


def eager() -> Run:
    return Run(LAYOUT, PLANNED.plan, lambda disk: disk)


def late() -> Run:
    return Run(LAYOUT, PLANNED.plan, LateStore)


def failing(*failures: Failure) -> Run:
    return Run(LAYOUT, PLANNED.plan, lambda disk: FailingStore(disk, failures))


@pytest.mark.parametrize("make_run", [eager, late])
def test_every_action_reads_what_it_would_without_any_transfer(make_run):
    run, reference = make_run(), Reference(LAYOUT)
    lists = (*RUN, "prologue", "first", "flush")
    run.do(*lists)
    reference.do(*lists)
    assert run.kernels.trace == reference.kernels.trace
    assert run.committed_state() == reference.state()


@pytest.mark.parametrize("make_run", [eager, late])
def test_a_commit_in_the_middle_of_a_run_is_the_state_then(make_run):
    run, reference = make_run(), Reference(LAYOUT)
    run.do("prologue", "first", "steady", "commit")
    reference.do("prologue", "first", "steady", "commit")
    state = reference.state()
    assert run.committed_state() == state
    run.do("steady", "steady")
    assert run.num_commits == 1
    assert run.committed_state() == state


def test_a_steady_step_moves_the_predicted_bytes():
    run = eager()
    run.do("prologue", "first", "steady")
    before = run.disk.counters()
    run.do("steady")
    after = run.disk.counters()
    assert after.bytes_read - before.bytes_read == PLANNED.prediction.bytes_read > 0
    assert after.bytes_written - before.bytes_written == PLANNED.prediction.bytes_written > 0


def test_transfers_start_in_the_order_of_the_list():
    run = late()
    run.do("prologue", "first")
    run.store.events.clear()
    run.do("steady")
    started = [
        (kind, name.partition("@")[0]) for kind, name, *_ in run.store.events if kind != "wait"
    ]
    listed = [
        ("read" if isinstance(a, Fetch) else "write", a.region)
        for a in PLANNED.plan.steady
        if isinstance(a, Fetch | WriteBack)
    ]
    assert started == listed


def test_the_committed_place_is_not_written_until_the_next_commit():
    run = late()
    run.do("prologue", "first")
    for name in ("steady", "commit", "steady", "commit", "flush"):
        committed = {
            f"{region}@{run.slots.write_slot(region) ^ 1}"
            for region in LAYOUT.region_bytes
            if region.startswith("state/")
        }
        run.store.events.clear()
        commits = run.num_commits
        run.do(name)
        if run.num_commits == commits:
            assert committed.isdisjoint(e[1] for e in run.store.events if e[0] == "write")
        else:
            written = {e[1] for e in run.store.events if e[0] == "write" and "state" in e[1]}
            assert committed.isdisjoint(written)
            assert len(written) == len(committed)


ROOM = (Acquire("gradient/0", "host", 0), Acquire("weights/0", "host", 4096))
FETCH = Fetch("state/0/0", "disk", "host", 8192)
SAVE = WriteBack("state/0/0", "host", "disk")
UPDATE = Update(0, 0, "optimizer")


def events_of(*actions) -> list[tuple[str, ...]]:
    run = late()
    assert run.executor.exposed_io_s == 0.0
    run.executor.run(actions)
    return run.store.events


def test_a_read_is_waited_for_by_the_action_that_needs_it():
    forward = Compute(0, "forward", 0)
    boundary = Acquire("boundary/1/0", "host", 24576)
    assert events_of(*ROOM, boundary, FETCH, forward) == [("read", "state/0/0@0")]
    assert events_of(*ROOM, FETCH, UPDATE) == [
        ("read", "state/0/0@0"),
        ("wait", "read", "state/0/0@0"),
    ]


def test_a_write_is_waited_for_by_a_change_but_not_by_a_read():
    start = (*ROOM, FETCH, UPDATE, SAVE)
    waited = ("wait", "write", "state/0/0@1")
    assert waited not in events_of(*start, Update(0, 0, "derive"))
    assert waited in events_of(*start, UPDATE)
    assert waited in events_of(*start, SAVE)
    assert waited in events_of(*start, Release("state/0/0", "host"))


def test_a_region_that_is_still_read_is_saved_or_released_only_afterwards():
    waited = ("wait", "read", "state/0/0@0")
    assert events_of(FETCH, SAVE)[1] == waited
    assert events_of(FETCH, Release("state/0/0", "host"))[1] == waited


def test_only_waiting_counts_as_exposed(monkeypatch):
    ticks = iter(range(10**6))
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(executor_module, "time", clock)
    run = eager()
    run.do(*RUN)
    assert run.executor.exposed_io_s == 0.0
    waiting = late()
    waiting.executor.run((*ROOM, FETCH, UPDATE, SAVE, UPDATE))
    assert waiting.executor.exposed_io_s == 2.0  # one tick for each of two waits


class Asked(threading.Event):
    """An event that says when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.set()
        return super().wait(timeout)


@pytest.mark.parametrize("direction", ["read", "write"])
def test_the_loop_stands_still_while_a_transfer_is_held(direction):
    release = Asked()
    run = failing(Failure(direction=direction, number=0, kind="hold", release=release))
    actions = (*ROOM, FETCH, UPDATE, SAVE, UPDATE)
    thread = threading.Thread(target=run.executor.run, args=(actions,))
    thread.start()
    assert release.asked.wait(10)
    done = [action for action, _ in run.kernels.trace]
    release.set()
    thread.join(10)
    assert done == ([] if direction == "read" else [UPDATE])
    assert [action for action, _ in run.kernels.trace] == [UPDATE, UPDATE]
    assert run.executor.exposed_io_s > 0


def transfers_of_a_run(direction: str) -> int:
    run = late()
    run.do(*RUN)
    return sum(event[0] == direction for event in run.store.events)


@pytest.mark.parametrize("direction", ["read", "write"])
def test_after_any_failed_transfer_the_last_commit_is_whole(direction):
    """Each transfer of a run fails once; its error comes out, and no commit happens after it."""
    reference = Reference(LAYOUT)
    states = [reference.state()]
    for name in RUN:
        reference.do(name)
        if name in ("commit", "flush"):
            states.append(reference.state())
    commits = set()
    for number in range(transfers_of_a_run(direction)):
        run = failing(Failure(direction=direction, number=number, kind="eio"))
        with pytest.raises(StorageError, match=r"Input/output error \(EIO\)"):
            run.do(*RUN)
        assert run.committed_state() == states[run.num_commits]
        commits.add(run.num_commits)
    assert commits == {0, 1}


def test_a_full_disk_is_an_error_of_the_run():
    run = failing(Failure(direction="write", number=3, kind="enospc"))
    with pytest.raises(StorageError, match=r"No space left on device \(ENOSPC\)"):
        run.do(*RUN)
    assert run.num_commits == 0


def test_a_flipped_bit_in_the_state_is_found_when_it_is_used():
    run = failing(Failure(direction="read", number=0, kind="bit_flip", flipped_bit=70))
    with pytest.raises(StorageError, match="The bytes of 'state/0/0@0' read from"):
        run.executor.run((*ROOM, FETCH, UPDATE))
    assert run.kernels.trace == []


def test_the_checksum_of_a_written_region_is_the_one_that_it_is_read_with():
    run = eager()
    run.executor.run((*ROOM, FETCH, UPDATE, SAVE, Release("state/0/0", "host")))
    version = run.slots.newest("state/0/0")
    assert version.slot == 1
    flipped = FailingStore(run.disk, [Failure(direction="read", number=0, kind="bit_flip")])
    view = run.arena.view(0, 12288)
    with pytest.raises(StorageError, match="state/0/0@1"):
        flipped.start_read("state/0/0@1", view, version.checksum).wait()
    assert run.disk.start_read("state/0/0@1", view, version.checksum).wait().checksum == (
        version.checksum
    )


def test_an_error_of_the_arithmetic_comes_out_before_any_commit():
    class Broken(HashingKernels):
        def run(self, action, views):
            if len(self.trace) == 40:
                raise ArithmeticError("no")
            super().run(action, views)

    run = Run(LAYOUT, PLANNED.plan, lambda disk: disk, Broken)
    with pytest.raises(ArithmeticError):
        run.do(*RUN)
    assert run.num_commits == 0
    assert run.committed_state() == Reference(LAYOUT).state()
