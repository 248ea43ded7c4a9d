"""Model files become training state, one span at a time.

A span's masters are read from the file by ranges, converted to fp32 straight into arena memory, and
written; moments start at zero. No tensor is ever whole in memory, except when fresh weights are
drawn.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from outsize.formats.source import WeightSource
from outsize.models.layered import LayeredModel
from outsize.plan import layout as names
from outsize.plan.layout import LayerLayout, Layout
from outsize.runtime.slots import Slots, extent_name
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
        arena: at least as long as the largest region of state; its start is overwritten.
        store: receives the state.
        slots: learns where it lies.
        on_progress: called with the number of finished elements.

    Raises:
        FormatError: a file is damaged.
        StorageError: the disk failed.

    Cost: up to three spans of the arena; writes 12 bytes a parameter; for fresh weights one
    tensor in fp32.
    """
    size = _slot_bytes(layout)
    num_windows = min(_IN_FLIGHT, arena.size_bytes // size)
    windows = [arena.view(i * size, size) for i in range(num_windows)]
    writing: deque[_Writing] = deque()
    done = 0
    for count, (index, span, read) in enumerate(_spans(layout, model, source, seed)):
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


def _spans(
    layout: Layout, model: LayeredModel, source: WeightSource | None, seed: int
) -> Iterator[tuple[int, int, ReadValues]]:
    for index, layer in enumerate(layout.layers):
        if source is not None:
            for span in range(layer.num_spans):
                yield index, span, source.read
        else:
            values = {name: v.numpy().reshape(-1) for name, v in model.initial_values(index, seed)}
            for span in range(layer.num_spans):
                yield index, span, _reader(values)
            del values  # before the next layer's are drawn


def _reader(values: Mapping[str, npt.NDArray[np.float32]]) -> ReadValues:
    return lambda name, start, stop: values[name][start:stop]


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
