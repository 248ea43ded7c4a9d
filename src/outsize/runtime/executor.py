"""The only loop: it takes a list of actions and does them.

Transfers are started where the list says so and waited for where their region is needed; arithmetic
runs on the calling thread, through `Kernels`. Overlap, residency and order are decided in the list,
none of them here. Read `plan/build.py` for how the list is made and `train/kernels.py` for the
arithmetic.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from outsize.plan.actions import (
    Acquire,
    Action,
    Commit,
    Compute,
    Fetch,
    Release,
    Update,
    Work,
    WriteBack,
)
from outsize.plan.layout import Layout, is_durable
from outsize.plan.schedule import uses
from outsize.runtime.slots import Slots, extent_name
from outsize.store.arena import HostArena
from outsize.store.store import Store, Transfer


class Kernels(Protocol):
    """The arithmetic of actions."""

    def run(self, action: Work, views: Mapping[str, memoryview]) -> None:
        """Do one action on the regions that it uses, which lie in host memory at `views`."""
        ...


class Executor:
    """Runs lists of actions over one arena and one store.

    Args:
        layout: sizes of regions.
        arena: host memory that the offsets of the lists lie in.
        store: the disk tier.
        slots: where durable regions lie on disk.
        kernels: the arithmetic.
        on_commit: called when every write of durable regions has ended; makes them current.

    Guarantees: a region is read by an action only after its transfer has ended, and changed only
    after a write of it
        has ended. After an exception the lists must not go on; what was committed is whole.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        arena: HostArena,
        store: Store,
        slots: Slots,
        kernels: Kernels,
        on_commit: Callable[[], None],
    ) -> None:
        self._layout = layout
        self._arena = arena
        self._store = store
        self._slots = slots
        self._kernels = kernels
        self._on_commit = on_commit
        self._views: dict[str, memoryview] = {}
        self._reading: dict[str, Transfer] = {}
        self._writing: dict[str, Transfer] = {}
        self.exposed_io_s = 0.0
        """Seconds that the compute thread has waited for transfers."""

    def run(self, actions: Iterable[Action]) -> None:
        """Do the actions in order.

        Raises:
            StorageError: a transfer failed.
        """
        for action in actions:
            match action:
                case Acquire(region, _, offset):
                    self._views[region] = self._window(region, offset)
                case Fetch(region, _, _, offset):
                    self._fetch(region, offset)
                case WriteBack(region, _, _):
                    self._write_back(region)
                case Release(region, _):
                    self._end_read(region)
                    self._end_write(region)
                    del self._views[region]
                case Commit():
                    for region in [r for r in self._writing if is_durable(r)]:
                        self._end_write(region)
                    self._on_commit()
                case Compute() | Update():
                    self._work(action)

    def _window(self, region: str, offset: int) -> memoryview:
        return self._arena.view(offset, self._layout.region_bytes[region])

    def _fetch(self, region: str, offset: int) -> None:
        view = self._views[region] = self._window(region, offset)
        if is_durable(region):
            version = self._slots.newest(region)
            extent = extent_name(region, version.slot)
            self._reading[region] = self._store.start_read(extent, view, version.checksum)
        else:
            self._reading[region] = self._store.start_read(region, view)

    def _write_back(self, region: str) -> None:
        self._end_read(region)
        self._end_write(region)
        durable = is_durable(region)
        extent = extent_name(region, self._slots.write_slot(region)) if durable else region
        self._writing[region] = self._store.start_write(extent, self._views[region], durable)

    def _work(self, action: Work) -> None:
        for use in uses(self._layout, action):
            self._end_read(use.region)
            if use.mode != "read":
                self._end_write(use.region)
        self._kernels.run(action, self._views)

    def _end_read(self, region: str) -> None:
        transfer = self._reading.pop(region, None)
        if transfer is not None:
            self._wait(transfer)

    def _end_write(self, region: str) -> None:
        transfer = self._writing.pop(region, None)
        if transfer is None:
            return
        checksum = self._wait(transfer)
        if is_durable(region):
            self._slots.written(region, checksum or 0)

    def _wait(self, transfer: Transfer) -> int | None:
        if transfer.done:
            return transfer.wait().checksum
        start_s = time.perf_counter()
        result = transfer.wait()
        self.exposed_io_s += time.perf_counter() - start_s
        return result.checksum
