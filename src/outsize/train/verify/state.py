"""The committed masters and moments of a run folder, read by ranges of tensors.

`committed.py` hands out masters alone, as the weights of a model.
"""

from pathlib import Path

import torch
from torch import Tensor

from outsize.errors import RunError
from outsize.formats.ranged import RangedFile
from outsize.plan import layout as names
from outsize.plan.layout import STATE_COMPONENTS
from outsize.runtime.slots import Slots, extent_name
from outsize.train.committed import read_layout
from outsize.train.run_folder import last_commit
from outsize.train.state_file import durable_extents, durable_regions


class StoredState:
    """The newest committed state.

    Args:
        folder: the run folder; no other process works on it.

    Attributes:
        step: updates that it holds.

    Raises:
        RunError: there is no run, or it has committed nothing.
        StorageError: its files do not fit each other, or one cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        layout = read_layout(folder)
        record = last_commit(folder / "journal.bin")
        if record is None:
            raise RunError(f"The run in {folder} has committed nothing yet.")
        self.step = int(str(record["step"]))
        copies = layout.state_copies
        self._slots = Slots.from_record(record, durable_regions(layout), num_slots=copies)
        self._offsets = {e.name: e.offset_bytes for e in durable_extents(layout)}
        self._layers = layout.layers
        self._placed = {
            placed.tensor.name: (index, placed)
            for index, layer in enumerate(layout.layers)
            for placed in layer.tensors
        }
        self._file = RangedFile(folder / "state.bin")

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensors."""
        return tuple(self._placed)

    def read(self, name: str, component: str, start: int, stop: int) -> Tensor:
        """Return elements `start` to `stop` of a tensor's `master`, `exp_avg` or `exp_avg_sq`.

        Cost: 4 bytes an element.
        """
        index, placed = self._placed[name]
        layer, parts = self._layers[index], []
        first, last = placed.start + start, placed.start + stop
        assert first < last <= placed.stop
        while first < last:
            span = first // layer.span_elements
            low, high = layer.span(span)
            end = min(last, high)
            region = names.state(index, span)
            offset = self._offsets[extent_name(region, self._slots.newest(region).slot)]
            offset += STATE_COMPONENTS.index(component) * layer.master_bytes(span)
            data = self._file.read(offset + 4 * (first - low), 4 * (end - first))
            parts.append(torch.frombuffer(data, dtype=torch.float32))
            first = end
        return torch.cat(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
