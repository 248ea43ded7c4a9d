"""The header of a GGUF file, read as if an enemy had written it.

Counts, lengths, types, alignment and the place of every tensor are checked against the file before
they are used. Of the metadata only numbers, short strings and short lists are kept; token lists are
walked over. Read `gguf_file.py` next.
"""

import math
import struct

from outsize.errors import FormatError
from outsize.formats.gguf_cursor import GgufCursor
from outsize.formats.gguf_types import (
    MAX_KEPT_ITEMS,
    MAX_KEPT_STRING_BYTES,
    GgufHeader,
    GgufTensor,
    Value,
    block_type,
)
from outsize.formats.ranged import RangedFile

MAX_HEADER_BYTES = 256 << 20
MAX_TENSORS = 1 << 14
MAX_KEYS = 1 << 10
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 1024
VERSIONS = (2, 3)

_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING = 8
_ARRAY = 9


def read_header(file: RangedFile) -> GgufHeader:
    """Return the header of a GGUF file.

    Raises:
        FormatError: the header is damaged or does not match the file; names the file and the
            tensor.

    Cost: some hundred bytes a tensor and a window of 64 KiB.
    """
    cursor = GgufCursor(file, MAX_HEADER_BYTES)
    num_tensors, num_keys = _read_counts(cursor, file)
    metadata: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(num_keys):
        _read_pair(cursor, metadata, lengths)
    placed = [_read_tensor(cursor) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise FormatError(f"{file.path}: general.alignment is {alignment!r}, not a power of two.")
    data_start = -(-cursor.offset // alignment) * alignment
    tensors = tuple(_place(tensor, file, data_start, alignment) for tensor in placed)
    _check_layout(tensors, file)
    return GgufHeader(metadata=metadata, lengths=lengths, tensors=tensors)


def _read_counts(cursor: GgufCursor, file: RangedFile) -> tuple[int, int]:
    if file.num_bytes < 24 or cursor.take(4) != b"GGUF":
        raise FormatError(f"{file.path} is no GGUF file: it does not begin with the letters GGUF.")
    version = cursor.count("I")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        kind = "a big-endian file" if swapped else f"version {version}"
        raise FormatError(
            f"{file.path} is {kind} of GGUF; versions 2 and 3 in little-endian are read."
        )
    num_tensors = cursor.count()
    num_keys = cursor.count()
    if num_tensors > MAX_TENSORS or num_keys > MAX_KEYS:
        raise cursor.fail(f"{num_tensors} tensors and {num_keys} keys are claimed, which is absurd")
    return num_tensors, num_keys


def _read_pair(cursor: GgufCursor, metadata: dict[str, Value], lengths: dict[str, int]) -> None:
    key = _read_name(cursor)
    if key in metadata or key in lengths:
        raise cursor.fail(f"the key {key!r} comes twice")
    kind = cursor.count("I")
    if kind == _ARRAY:
        lengths[key], kept = _read_list(cursor)
        if kept:
            metadata[key] = kept
    elif kind == _STRING:
        lengths[key] = cursor.count()
        if lengths[key] <= MAX_KEPT_STRING_BYTES:
            metadata[key] = cursor.text(lengths[key])
        else:
            cursor.skip(lengths[key])
    elif kind in _CODES:
        metadata[key] = cursor.word(_CODES[kind])
    else:
        raise cursor.fail(f"the key {key!r} has the unknown type {kind}")


def _read_name(cursor: GgufCursor) -> str:
    num_bytes = cursor.count()
    if num_bytes > MAX_NAME_BYTES:
        raise cursor.fail(f"a name of {num_bytes} bytes is claimed")
    return cursor.text(num_bytes)


def _read_list(cursor: GgufCursor) -> tuple[int, tuple[int | float | bool, ...]]:
    kind = cursor.count("I")
    length = cursor.count()
    if kind == _STRING:
        if length > cursor.remaining_bytes() // 8:
            raise cursor.fail(
                f"a list of {length} strings cannot follow; the file is truncated or lies"
            )
        cursor.skip_texts(length)
        return length, ()
    if kind not in _CODES:
        raise cursor.fail(f"a list has items of the unknown type {kind}")
    code = _CODES[kind]
    if length > MAX_KEPT_ITEMS:
        cursor.skip(length * struct.calcsize(code))
        return length, ()
    return length, tuple(cursor.word(code) for _ in range(length))


def _read_tensor(cursor: GgufCursor) -> GgufTensor:
    name = _read_name(cursor)
    num_dimensions = cursor.count("I")
    if num_dimensions > MAX_DIMENSIONS:
        raise cursor.fail(f"tensor {name!r} has {num_dimensions} dimensions")
    shape = tuple(cursor.count() for _ in range(num_dimensions))[::-1]
    number = cursor.count("I")
    kind = block_type(number)
    if kind is None:
        raise cursor.fail(f"tensor {name!r} has the unknown type {number}")
    row_elements = shape[-1] if shape else 1
    if 0 in shape or row_elements % kind.block_elements:
        raise cursor.fail(f"tensor {name!r} has shape {list(shape)}, impossible for {kind.name}")
    num_bytes = math.prod(shape) // kind.block_elements * kind.block_bytes
    return GgufTensor(
        name=name, shape=shape, block_type=kind, offset=cursor.count(), num_bytes=num_bytes
    )


def _place(tensor: GgufTensor, file: RangedFile, data_start: int, alignment: int) -> GgufTensor:
    offset = data_start + tensor.offset
    if tensor.offset % alignment:
        raise FormatError(
            f"{file.path}: tensor {tensor.name!r} is not aligned to {alignment} bytes."
        )
    if offset + tensor.num_bytes > file.num_bytes:
        raise FormatError(
            f"{file.path} is truncated: tensor {tensor.name!r} ends at byte "
            f"{offset + tensor.num_bytes}, the file has {file.num_bytes}."
        )
    return GgufTensor(
        name=tensor.name,
        shape=tensor.shape,
        block_type=tensor.block_type,
        offset=offset,
        num_bytes=tensor.num_bytes,
    )


def _check_layout(tensors: tuple[GgufTensor, ...], file: RangedFile) -> None:
    names: set[str] = set()
    for tensor in tensors:
        if tensor.name in names:
            raise FormatError(f"{file.path} names the tensor {tensor.name!r} twice.")
        names.add(tensor.name)
    end = 0
    for tensor in sorted(tensors, key=lambda t: t.offset):
        if tensor.offset < end:
            raise FormatError(f"{file.path}: tensor {tensor.name!r} overlaps the tensor before it.")
        end = tensor.offset + tensor.num_bytes
