"""Model files become training state, one span at a time.

A span's masters are read from the file by ranges, converted to fp32 straight into arena memory, and
written; moments start at zero. No such tensor is ever whole in memory; fresh weights and adapters
are drawn a layer at a time, at the arena's end. What steps only read is converted to the compute
dtype, a layer at a time, as it will lie in the arena.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from outsize.formats.source import WeightSource
from outsize.models.layered import LayeredModel
from outsize.plan import layout as names
from outsize.plan.layer_layout import LayerLayout
from outsize.plan.layout import Layout
from outsize.quantities import align_up
from outsize.runtime.slots import Slots, extent_name
from outsize.spec.tensor import DTYPE_BYTES, PAGE_BYTES
from outsize.store.arena import HostArena
from outsize.store.store import Store, Transfer
from outsize.train.packed import ReadTensor, pack_layer, unpack_layer
from outsize.train.views import run_tensors

ReadValues = Callable[[str, int, int], npt.NDArray[np.float32]]
"""Returns elements start..stop of a tensor, flattened."""

_IN_FLIGHT = 3
"""Spans in memory where there is room: some are being written while the next one is converted."""


@dataclass(slots=True)
class _Writing:
    region: str
    transfer: Transfer


def import_state(
    *,
    layout: Layout,
    model: LayeredModel,
    source: WeightSource | None,
    seed: int,
    arena: HostArena,
    store: Store,
    slots: Slots,
    on_progress: Callable[[int], None],
) -> None:
    """Write the initial state of all layers to disk.

    Args:
        layout: regions.
        model: makes fresh values when there are no files.
        source: the model's files; None draws fresh weights from `seed`.
        seed: of fresh weights.
        arena: its content is overwritten. At least as long as the largest region of state, and for
            fresh weights 4 bytes an element of the largest layer more; a plan that trains has that
            much, because an update touches a span of state with the layer's weights and gradient.
        store: receives the state.
        slots: learns where it lies.
        on_progress: called with the number of finished elements.

    Raises:
        FormatError: a file is damaged.
        StorageError: the disk failed.

    Cost: up to three spans of the arena, and for fresh weights the largest layer in fp32 there;
    writes 4 bytes a parameter for the master and for each moment.
    """
    draws = source is None or model.spec.has_adapters
    limit = _drawn_at(arena, layout) if draws else arena.size_bytes
    importer = _Importer(layout, model, source, seed, arena, limit, store, slots, on_progress)
    for index in range(len(layout.layers)):
        importer.layer(index)
    importer.finish()


class _Importer:
    """Imports layer after layer: what steps only read first, at the arena's start, where adapters
    of the layer still find it; then fresh values at its end, and the spans of state between.
    """

    def __init__(
        self,
        layout: Layout,
        model: LayeredModel,
        source: WeightSource | None,
        seed: int,
        arena: HostArena,
        limit: int,
        store: Store,
        slots: Slots,
        on_progress: Callable[[int], None],
    ) -> None:
        size = _slot_bytes(layout)
        num_windows = min(_IN_FLIGHT, limit // size)
        assert num_windows > 0, (arena.size_bytes, size)
        self._layout = layout
        self._model = model
        self._source = source
        self._seed = seed
        self._arena = arena
        self._fresh = arena.view(limit, arena.size_bytes - limit)
        self._windows = deque(arena.view(i * size, size) for i in range(num_windows))
        self._store = store
        self._slots = slots
        self._on_progress = on_progress
        self._writing: deque[_Writing] = deque()
        self._done = 0

    def layer(self, index: int) -> None:
        """Write one layer's regions."""
        base = self._base(index)
        read = self._reader(index, base)
        layer = self._layout.layers[index]
        for span in range(layer.num_spans):
            if len(self._writing) == len(self._windows):
                self._finish_one()
            region = names.state(index, span)
            view = self._windows[0][: self._layout.region_bytes[region]]
            self._windows.rotate(-1)
            _fill(view, layer, span, read)
            self._write(region, view)
            first, last = layer.span(span)
            self._advance(last - first)

    def finish(self) -> None:
        """Wait for all writes."""
        while self._writing:
            self._finish_one()

    def _base(self, index: int) -> dict[str, Tensor]:
        """Write what steps only read of a layer, and return it where adapters start from it: it
        lies at the arena's start.
        """
        layer, dtype = self._layout.layers[index], self._model.dtype
        if not layer.frozen:
            return {}
        self.finish()
        size = self._layout.region_bytes[names.base(index)]
        resting = self._arena.view(0, size)
        if layer.is_packed:
            run_bytes = self._layout.region_bytes[names.unpacked(index)]
            run = self._arena.view(size, run_bytes)
        else:
            run_bytes, run = size, resting
        pack_layer(layer, resting, dtype, self._frozen_reader(index, run))
        self._write(names.base(index), resting)
        self._advance(layer.frozen_elements)
        if not layer.is_packed:
            self.finish()
            return run_tensors(run, layer.frozen, dtype)
        if not any(p.tensor.added and len(p.tensor.shape) == 1 for p in layer.tensors):
            self.finish()
            return {}  # only magnitudes start from what they are added to
        unpack_layer(layer, resting, run, dtype)
        self.finish()
        moved = self._arena.view(0, size + run_bytes)
        moved[:run_bytes] = moved[size:]  # so that the arena's end is free for fresh values
        return run_tensors(moved, layer.frozen, dtype)

    def _frozen_reader(self, index: int, run: memoryview) -> ReadTensor:
        """Return what reads a layer's frozen tensors: from the model's files, or drawn first."""
        source, dtype = self._source, self._model.dtype
        if source is not None:
            return lambda name, start, stop: torch.from_numpy(
                np.ascontiguousarray(source.read(name, start, stop))
            )
        tensors = run_tensors(run, self._layout.layers[index].frozen, dtype)
        self._model.initialise(index, self._seed, tensors)
        return lambda name, start, stop: tensors[name].view(-1)[start:stop].float()

    def _reader(self, index: int, base: Mapping[str, Tensor]) -> ReadValues:
        """Return what reads a layer's masters: from the model's files, or drawn first."""
        layer, source = self._layout.layers[index], self._source
        drawn = {p.tensor.name for p in layer.tensors if source is None or p.tensor.added}
        values = {n: t for n, t in _windows(self._fresh, layer).items() if n in drawn}
        if values:
            self._model.initialise(index, self._seed, values, base)

        def read(name: str, start: int, stop: int) -> npt.NDArray[np.float32]:
            if name in values or source is None:
                return values[name].view(-1)[start:stop].numpy()
            return source.read(name, start, stop)

        return read

    def _write(self, region: str, view: memoryview) -> None:
        extent = extent_name(region, self._slots.write_slot(region))
        self._writing.append(_Writing(region, self._store.start_write(extent, view, True)))

    def _finish_one(self) -> None:
        one = self._writing.popleft()
        self._slots.written(one.region, one.transfer.wait().checksum or 0)

    def _advance(self, count: int) -> None:
        self._done += count
        self._on_progress(self._done)


def _drawn_at(arena: HostArena, layout: Layout) -> int:
    """Return where the end of the arena starts that holds what is trained of any layer in fp32."""
    largest = max(layer.num_elements for layer in layout.layers)
    return arena.size_bytes - align_up(DTYPE_BYTES["float32"] * largest, PAGE_BYTES)


def _windows(fresh: memoryview, layer: LayerLayout) -> dict[str, Tensor]:
    """Return an fp32 tensor for each that is trained of a layer, one after the other."""
    if not fresh:
        return {}
    numbers = torch.frombuffer(fresh, dtype=torch.float32)
    return {
        placed.tensor.name: numbers[placed.start : placed.stop].view(placed.tensor.shape)
        for placed in layer.tensors
    }


def _fill(view: memoryview, layer: LayerLayout, span: int, read: ReadValues) -> None:
    numbers = np.frombuffer(view, np.float32)
    numbers[:] = 0
    first, _ = layer.span(span)
    for piece in layer.pieces(span):
        tensor = piece.placed
        values = read(tensor.tensor.name, piece.start - tensor.start, piece.stop - tensor.start)
        numbers[piece.start - first : piece.stop - first] = values


def _slot_bytes(layout: Layout) -> int:
    return max(size for name, size in layout.region_bytes.items() if names.role(name) == "state")
