"""Where the weights of each layer are when it runs: some stay in memory, the rest pass through.

One arena holds the layers that stay and, behind them, one slot for those that are read again in
every pass. The embedding table is never fetched for its own sake: its few rows are read as tokens
need them. Read `room.py` for which layers stay.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from outsize.formats.source import WeightSource
from outsize.plan.layer_layout import LayerLayout, Placed
from outsize.quantities import align_up
from outsize.spec.model import LayerSpec, ModelSpec
from outsize.spec.tensor import PAGE_BYTES
from outsize.store.arena import HostArena

CHUNK_ELEMENTS = 2**20
"""Elements that are read and converted at once."""


class Weights:
    """The weights of a model in the compute dtype, layer by layer.

    Args:
        model: its layers.
        source: where they are read from.
        table: name of the embedding table.
        dtype: what they are converted to.
    """

    def __init__(
        self, model: ModelSpec, source: WeightSource, table: str, dtype: torch.dtype
    ) -> None:
        self._source = source
        self._table = table
        self._dtype = dtype
        self._row_elements = model.hidden_size
        self._layouts = tuple(
            LayerLayout(layer=layer, span_elements=CHUNK_ELEMENTS)
            for layer in _layers_to_hold(model, table)
        )
        self._is_tied = model.tied is not None
        self._offsets: list[int] = []
        self._holds: dict[int, int] = {}

    @property
    def layer_bytes(self) -> tuple[int, ...]:
        """Bytes of each layer: the embedding without its table, a tied head with it."""
        return tuple(
            align_up(layout.num_elements * self._dtype.itemsize, PAGE_BYTES)
            for layout in self._layouts
        )

    def place(self, arena: HostArena, resident: Collection[int]) -> None:
        """Give each resident layer a window of its own and all others the one behind them.

        What was loaded before is forgotten.
        """
        sizes, end = self.layer_bytes, 0
        self._arena = arena
        self._holds = {}
        self._offsets = [sum(sizes[i] for i in resident)] * len(sizes)
        for index in resident:
            self._offsets[index] = end
            end += sizes[index]

    def views(self, index: int) -> dict[str, Tensor]:
        """Return a layer's tensors by name over its window, whatever is in there."""
        window = self._arena.view(self._offsets[index], self.layer_bytes[index])
        return {p.tensor.name: self._view(window, p) for p in self._layouts[index].tensors}

    def parameters(self, index: int) -> dict[str, Tensor]:
        """Return a layer's tensors by name; reads them when its window does not hold them.

        They are valid until another layer that does not stay is asked for.

        Raises:
            FormatError, StorageError: as the source.

        Cost: of a layer that is read, a few chunks in fp32 until the return.
        """
        tensors = self.views(index)
        offset = self._offsets[index]
        if tensors and self._holds.get(offset) != index:
            self._holds.pop(offset, None)
            for name, tensor in tensors.items():
                self._read(name, tensor.view(-1))
            self._holds[offset] = index
        return tensors

    def table_rows(self, rows: Tensor) -> Tensor:
        """Return rows (int64) of the embedding table, from memory if it is there."""
        head = len(self._layouts) - 1
        if self._is_tied and self._holds.get(self._offsets[head]) == head:
            return self.views(head)[self._table][rows]
        part = torch.empty(len(rows), self._row_elements, dtype=self._dtype)
        for row, values in zip(rows.tolist(), part, strict=True):
            self._read(self._table, values, row * self._row_elements)
        return part

    def _read(self, name: str, target: Tensor, first: int = 0) -> None:
        for start in range(0, len(target), CHUNK_ELEMENTS):
            stop = min(start + CHUNK_ELEMENTS, len(target))
            values = self._source.read(name, first + start, first + stop)
            target[start:stop].copy_(torch.from_numpy(np.ascontiguousarray(values)))

    def _view(self, window: memoryview, placed: Placed) -> Tensor:
        count, shape = placed.tensor.num_elements, placed.tensor.shape
        if not count:
            return torch.empty(shape, dtype=self._dtype)
        offset = placed.start * self._dtype.itemsize
        return torch.frombuffer(window, dtype=self._dtype, count=count, offset=offset).view(shape)


def _layers_to_hold(model: ModelSpec, table: str) -> tuple[LayerSpec, ...]:
    """Return the layers with the table moved to a tied head, or left out."""
    embedding, *blocks, head = model.layers
    others = tuple(tensor for tensor in embedding.tensors if tensor.name != table)
    tied = (model.tensor(table),) if model.tied is not None else ()
    return (
        replace(embedding, tensors=others),
        *blocks,
        replace(head, tensors=(*head.tensors, *tied)),
    )
