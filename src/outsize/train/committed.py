"""The weights that a run has committed, read like any other model's.

`run.json` holds the layout and the journal says which copy of each region is the committed one, so
no PyTorch is needed. Only masters are handed out; the moments of a span are read once with them,
for their common checksum. Read `export.py` next.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from outsize.errors import RunError
from outsize.formats.source import Float32Array, StoredTensor, check_range
from outsize.paths import is_file
from outsize.plan.layer_layout import LayerLayout, Placed
from outsize.plan.layout import Layout, role, state
from outsize.runtime.slots import Slots, extent_name
from outsize.spec.model import LayerSpec, ModelSpec
from outsize.spec.tensor import TensorSpec
from outsize.spec.workload import TrainWorkload
from outsize.store.arena import HostArena
from outsize.store.disk import DiskStore
from outsize.store.lock import RunLock
from outsize.train.run_folder import last_commit, read_run
from outsize.train.state_file import durable_extents, durable_regions


def is_run(path: Path) -> bool:
    """Tell whether a folder holds a run."""
    return is_file(path / "run.json")


class CommittedWeights:
    """A `WeightSource` over the last commit of a run; holds the run's lock until `close`.

    Args:
        path: the run folder.
        notice: called once with a sentence when the file system refuses direct I/O.

    Raises:
        RunError: there is no run, it has committed nothing yet, or another process works on it.
        StorageError: its files are damaged or cannot be opened.

    Cost: one region of state (12 MiB with AdamW) on host, and the store's four threads, until
        `close`.
    """

    def __init__(self, path: Path, notice: Callable[[str], None]) -> None:
        self.layout = read_layout(path)
        regions = durable_regions(self.layout)
        with ExitStack() as stack:
            stack.enter_context(RunLock(path))
            record = _last_record(path)
            self.step = int(str(record["step"]))
            copies = self.layout.state_copies
            self._slots = Slots.from_record(record, regions, num_slots=copies)
            state_file = path / "state.bin"
            self._store = DiskStore(
                state_file, durable_extents(self.layout), create=False, notice=notice
            )
            stack.callback(self._store.close)
            sizes = self.layout.region_bytes
            self._arena = HostArena(max(sizes[name] for name in regions if role(name) == "state"))
            stack.callback(self._arena.close)
            self._resources = stack.pop_all()
        self._places = _places(self.layout)
        self._tensors = {n: _stored(p, state_file) for n, (_, _, p) in self._places.items()}
        self._held: str | None = None
        self._verified: set[str] = set()

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor by its state-dict name; a tied matrix once."""
        return self._tensors

    def read(self, name: str, start: int, stop: int) -> Float32Array:
        """Return elements `start` to `stop` of a tensor's master; see `WeightSource.read`.

        Raises:
            StorageError: the disk failed, or the region's bytes are not those that were committed.
        """
        check_range(self._tensors[name], start, stop)
        index, layer, placed = self._places[name]
        values = np.empty(stop - start, np.float32)
        position, end = placed.start + start, placed.start + stop
        while position < end:
            span = position // layer.span_elements
            first, last = layer.span(span)
            upto = min(end, last)
            masters = self._masters(index, layer, span)
            done = position - placed.start - start
            values[done : done + upto - position] = masters[position - first : upto - first]
            position = upto
        return values

    def close(self) -> None:
        """Close the state and let other processes in; may be called again."""
        self._resources.close()

    def _masters(self, index: int, layer: LayerLayout, span: int) -> Float32Array:
        region = state(index, span)
        if region != self._held:
            self._held = None
            self._load(region, layer.master_bytes(span))
            self._held = region
        return np.frombuffer(self._arena.view(0, layer.master_bytes(span)), np.float32)

    def _load(self, region: str, master_bytes: int) -> None:
        """Read a region, the first time whole and verified, then only its masters."""
        version = self._slots.newest(region)
        extent = extent_name(region, version.slot)
        if region in self._verified:
            self._store.start_read(extent, self._arena.view(0, master_bytes)).wait()
            return
        view = self._arena.view(0, self.layout.region_bytes[region])
        self._store.start_read(extent, view, version.checksum).wait()
        self._verified.add(region)


def read_layout(path: Path) -> Layout:
    """Return the layout that a run was started with.

    Raises:
        RunError: there is no run, or it was started by another version.
    """
    if not is_run(path):
        raise RunError(
            f"{path} holds no run (there is no run.json in it); "
            "give the folder that a run was started with as --output."
        )
    try:
        return _parse_layout(read_run(path)["layout"])
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{path / 'run.json'} does not say where the weights lie: "
            "it was changed, or written by another version of Outsize."
        ) from error


def _parse_layout(content: Mapping[str, Any]) -> Layout:
    model = content["model"]
    layers = tuple(
        LayerSpec(
            **layer
            | {"tensors": tuple(TensorSpec(**t | {"shape": tuple(t["shape"])}) for t in tensors)}
        )
        for layer in model["layers"]
        for tensors in (layer["tensors"],)
    )
    return Layout(
        model=ModelSpec(**model | {"layers": layers}),
        workload=TrainWorkload(**content["workload"]),
        span_elements=content["span_elements"],
        state_copies=content.get("state_copies", 2),
    )


def _last_record(path: Path) -> Mapping[str, object]:
    journal = path / "journal.bin"
    record = last_commit(journal) if journal.exists() else None
    if record is None:
        raise RunError(
            f"The run in {path} has committed nothing yet: it was stopped while its model was "
            f"imported.\n  Go on with it: outsize train --resume {path}"
        )
    return record


def _places(layout: Layout) -> dict[str, tuple[int, LayerLayout, Placed]]:
    return {
        placed.tensor.name: (index, layer, placed)
        for index, layer in enumerate(layout.layers)
        for placed in layer.tensors
    }


def _stored(placed: Placed, file: Path) -> StoredTensor:
    tensor = placed.tensor
    return StoredTensor(
        name=tensor.name,
        shape=tensor.shape,
        dtype="F32",
        file=file,
        num_bytes=4 * tensor.num_elements,
    )
