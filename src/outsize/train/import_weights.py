"""Model files become training state, one span at a time.

A span's masters are read from the file by ranges, converted to fp32 straight into arena memory, and
written; moments start at zero. No tensor of a file is ever whole in memory; fresh weights are drawn
a layer at a time, at the arena's end.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from outsize.formats.source import WeightSource
from outsize.models.layered import LayeredModel
from outsize.plan import layout as names
from outsize.plan.layout import LayerLayout, Layout
from outsize.quantities import align_up
from outsize.runtime.slots import Slots, extent_name
from outsize.spec.tensor import DTYPE_BYTES, PAGE_BYTES
from outsize.store.arena import HostArena
from outsize.store.store import Store, Transfer

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
    size = _slot_bytes(layout)
    drawn = _drawn_at(arena, layout) if source is None else arena.size_bytes
    num_windows = min(_IN_FLIGHT, drawn // size)
    assert num_windows > 0, (arena.size_bytes, size)
    windows = [arena.view(i * size, size) for i in range(num_windows)]
    writing: deque[_Writing] = deque()
    done = 0
    fresh = arena.view(drawn, arena.size_bytes - drawn)
    for count, (index, span, read) in enumerate(_spans(layout, model, source, seed, fresh)):
        if len(writing) == num_windows:
            _finish(writing.popleft(), slots)
        layer, region = layout.layers[index], names.state(index, span)
        view = windows[count % num_windows][: layout.region_bytes[region]]
        _fill(view, layer, span, read)
        extent = extent_name(region, slots.write_slot(region))
        writing.append(_Writing(region, store.start_write(extent, view, True)))
        first, last = layer.span(span)
        done += last - first
        on_progress(done)
    while writing:
        _finish(writing.popleft(), slots)


def _drawn_at(arena: HostArena, layout: Layout) -> int:
    """Return where the end of the arena starts that holds the largest layer in fp32."""
    largest = max(layer.num_elements for layer in layout.layers)
    return arena.size_bytes - align_up(DTYPE_BYTES["float32"] * largest, PAGE_BYTES)


def _spans(
    layout: Layout,
    model: LayeredModel,
    source: WeightSource | None,
    seed: int,
    fresh: memoryview,
) -> Iterator[tuple[int, int, ReadValues]]:
    for index, layer in enumerate(layout.layers):
        if source is not None:
            for span in range(layer.num_spans):
                yield index, span, source.read
        else:
            values = _windows(fresh, layer)
            model.initialise(index, seed, values)
            for span in range(layer.num_spans):
                yield index, span, _reader(values)


def _windows(fresh: memoryview, layer: LayerLayout) -> dict[str, Tensor]:
    """Return an fp32 tensor for each of a layer's, one after the other."""
    numbers = torch.frombuffer(fresh, dtype=torch.float32) if fresh else torch.empty(0)
    return {
        placed.tensor.name: numbers[placed.start : placed.stop].view(placed.tensor.shape)
        for placed in layer.tensors
    }


def _reader(values: Mapping[str, Tensor]) -> ReadValues:
    return lambda name, start, stop: values[name].view(-1)[start:stop].numpy()


def _fill(view: memoryview, layer: LayerLayout, span: int, read: ReadValues) -> None:
    numbers = np.frombuffer(view, np.float32)
    numbers[:] = 0
    first, _ = layer.span(span)
    for piece in layer.pieces(span):
        tensor = piece.placed
        values = read(tensor.tensor.name, piece.start - tensor.start, piece.stop - tensor.start)
        numbers[piece.start - first : piece.stop - first] = values


def _finish(writing: _Writing, slots: Slots) -> None:
    slots.written(writing.region, writing.transfer.wait().checksum or 0)


def _slot_bytes(layout: Layout) -> int:
    return max(size for name, size in layout.region_bytes.items() if names.is_durable(name))
