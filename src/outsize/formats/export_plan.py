"""Which tensor goes to which byte of which safetensors file, decided before anything is written.

Pure: shapes in, headers out. Shards are named as Transformers names them. Read `export.py` next.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2}
HEADER_ALIGNMENT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTensor:
    """One tensor to be written; `offset` is its first byte, counted from the end of the header."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int

    @property
    def num_elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return ITEM_BYTES[self.dtype]

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor."""
        return self.num_elements * self.item_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file to be written; `header` includes the eight bytes of length."""

    file_name: str
    header: bytes
    tensors: tuple[PlannedTensor, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + sum(tensor.num_bytes for tensor in self.tensors)


def plan_shards(
    tensors: Sequence[tuple[str, tuple[int, ...], str]],
    max_shard_bytes: int,
    stem: str = "model",
) -> tuple[Shard, ...]:
    """Distribute tensors over files, in order.

    Args:
        tensors: name, shape and dtype (a key of `ITEM_BYTES`) of each.
        max_shard_bytes: a file is closed before it would grow over this.
        stem: what the files' names begin with.
    """
    assert len({name for name, _, _ in tensors}) == len(tensors), "names must differ"
    groups: list[list[PlannedTensor]] = [[]]
    offset = 0
    for name, shape, dtype in tensors:
        num_bytes = math.prod(shape) * ITEM_BYTES[dtype]
        if groups[-1] and offset + num_bytes > max_shard_bytes:
            groups.append([])
            offset = 0
        groups[-1].append(PlannedTensor(name=name, shape=shape, dtype=dtype, offset=offset))
        offset += num_bytes
    return tuple(
        Shard(
            file_name=_file_name(stem, number, len(groups)),
            header=_header(group),
            tensors=tuple(group),
        )
        for number, group in enumerate(groups, start=1)
    )


def index_text(shards: Sequence[Shard]) -> str:
    """Return the text of `model.safetensors.index.json`."""
    tensors = [(tensor, shard.file_name) for shard in shards for tensor in shard.tensors]
    index = {
        "metadata": {
            "total_parameters": sum(tensor.num_elements for tensor, _ in tensors),
            "total_size": sum(tensor.num_bytes for tensor, _ in tensors),
        },
        "weight_map": {tensor.name: file_name for tensor, file_name in tensors},
    }
    return json.dumps(index, indent=2) + "\n"


def _file_name(stem: str, number: int, count: int) -> str:
    part = "" if count == 1 else f"-{number:05d}-of-{count:05d}"
    return f"{stem}{part}.safetensors"


def _header(tensors: Sequence[PlannedTensor]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for tensor in tensors:
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [tensor.offset, tensor.offset + tensor.num_bytes],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % HEADER_ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
