"""Kernels that hash, a store as late as it may be, and a run of both beside a reference.

Each action hashes all that it reads and fills all that it writes with the hash. Two runs whose
hashes agree have seen the same bytes at every action. The reference gives every region memory of
its own and moves nothing.
"""

import hashlib
from collections.abc import Callable, Mapping

from outsize.plan.actions import Update, Work
from outsize.plan.layout import Layout, is_durable
from outsize.plan.schedule import train_step, uses
from outsize.plan.step_plan import StepPlan
from outsize.runtime.executor import Executor
from outsize.runtime.slots import Slots, Version, extent_name
from outsize.store.arena import HostArena
from outsize.store.checksum import checksum_of
from outsize.store.null import EndedTransfer, NullStore
from outsize.store.store import Extent, Store, StoreCounters, TransferResult, place_extents


class HashingKernels:
    """Fake arithmetic; `trace` has the hash of what each action has read."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.trace: list[tuple[Work, bytes]] = []

    def run(self, action: Work, views: Mapping[str, memoryview]) -> None:
        touched = uses(self._layout, action)
        seen = hashlib.blake2b(repr(action).encode(), digest_size=16)
        for use in touched:
            if use.mode != "write":
                seen.update(views[use.region])
        for use in touched:
            if use.mode != "read":
                view = views[use.region]
                pattern = hashlib.blake2b(seen.digest() + use.region.encode()).digest()
                view[:] = pattern * (len(view) // len(pattern))
        self.trace.append((action, seen.digest()))


class LateTransfer:
    """A transfer that happens when it is waited for, not before."""

    def __init__(self, store: "LateStore", event: tuple[str, str], start) -> None:
        self._store = store
        self._event = event
        self._start = start
        self._ended: EndedTransfer | None = None

    @property
    def done(self) -> bool:
        return self._ended is not None

    def wait(self) -> TransferResult:
        if self._ended is None:
            self._store.events.append(("wait", *self._event))
            self._ended = self._start()
        return self._ended.wait()


class LateStore:
    """A store whose reads arrive and whose writes leave only when they are waited for; until then
    the buffer of a read holds rubbish.
    """

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._writes: list[LateTransfer] = []
        self.events: list[tuple[str, ...]] = []

    def start_read(
        self, extent: str, buffer: memoryview, checksum: int | None = None
    ) -> LateTransfer:
        self.events.append(("read", extent))
        buffer[:] = b"?" * len(buffer)
        return LateTransfer(
            self, ("read", extent), lambda: self._inner.start_read(extent, buffer, checksum)
        )

    def start_write(
        self, extent: str, buffer: memoryview, want_checksum: bool = False
    ) -> LateTransfer:
        self.events.append(("write", extent))
        transfer = LateTransfer(
            self, ("write", extent), lambda: self._inner.start_write(extent, buffer, want_checksum)
        )
        self._writes.append(transfer)
        return transfer

    def sync(self) -> None:
        for transfer in self._writes:
            transfer.wait()
        self._writes.clear()
        self._inner.sync()

    def counters(self) -> StoreCounters:
        return self._inner.counters()

    def close(self) -> None:
        self._inner.close()


def all_extents(layout: Layout) -> tuple[Extent, ...]:
    durable = [name for name in layout.region_bytes if is_durable(name)]
    return place_extents(
        [(extent_name(r, slot), layout.region_bytes[r]) for r in durable for slot in (0, 1)]
        + [(r, size) for r, size in layout.region_bytes.items() if not is_durable(r)]
    )


def initial_bytes(region: str, size_bytes: int) -> bytes:
    return hashlib.blake2b(region.encode()).digest() * (size_bytes // 64)


def fill_store(layout: Layout, store: Store) -> Slots:
    """Write and commit the initial state."""
    versions = {}
    for region, size in layout.region_bytes.items():
        if is_durable(region):
            content = memoryview(initial_bytes(region, size))
            store.start_write(extent_name(region, 0), content).wait()
            versions[region] = Version(0, checksum_of(content))
    return Slots(versions)


class Run:
    """A plan on fakes. `record` describes the last commit, and `wrap` puts a store around the
    remembering one.
    """

    def __init__(
        self,
        layout: Layout,
        plan: StepPlan,
        wrap: Callable[[Store], Store],
        make_kernels: Callable[[Layout], HashingKernels] = HashingKernels,
    ) -> None:
        self.layout = layout
        self.disk = NullStore(all_extents(layout), remember=True)
        self.slots = fill_store(layout, self.disk)
        self.record = self.slots.to_record()
        self.num_commits = 0
        self.kernels = make_kernels(layout)
        self.arena = HostArena(plan.arena_bytes)
        self.store = wrap(self.disk)
        self._plan = plan
        self.executor = Executor(
            layout=layout,
            arena=self.arena,
            store=self.store,
            slots=self.slots,
            kernels=self.kernels,
            on_commit=self._commit,
        )

    def do(self, *lists: str) -> None:
        for name in lists:
            self.executor.run(getattr(self._plan, name))

    def _commit(self) -> None:
        self.store.sync()
        self.record = self.slots.to_record()
        self.slots.commit()
        self.num_commits += 1

    def committed_state(self) -> dict[str, bytes]:
        """Read the state of the last commit as a resumed run would find it, checksums included."""
        regions = [name for name in self.layout.region_bytes if is_durable(name)]
        slots = Slots.from_record(self.record, regions)
        return {region: self._read(region, slots.newest(region)) for region in regions}

    def _read(self, region: str, version: Version) -> bytes:
        size = self.layout.region_bytes[region]
        arena = HostArena(size)
        view, extent = arena.view(0, size), extent_name(region, version.slot)
        self.disk.start_read(extent, view, version.checksum).wait()
        return bytes(view)


class Reference:
    """The same work with every region in memory of its own."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.kernels = HashingKernels(layout)
        self.regions = {
            name: memoryview(bytearray(initial_bytes(name, size) if is_durable(name) else size))
            for name, size in layout.region_bytes.items()
        }

    def do(self, *names: str) -> None:
        for name in names:
            for action in self._work(name):
                self.kernels.run(action, self.regions)

    def _work(self, name: str) -> tuple[Work, ...]:
        steady = train_step(self._layout)
        match name:
            case "prologue":
                return ()
            case "first":
                return train_step(self._layout, "derive")
            case "flush":
                return tuple(action for action in steady if isinstance(action, Update))
        return steady

    def state(self) -> dict[str, bytes]:
        return {name: bytes(view) for name, view in self.regions.items() if is_durable(name)}
