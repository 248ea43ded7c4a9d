"""Ranged reads of GGUF tensors, one function per layout.

All four take a range of the tensor as the state dict orders it and read only the blocks that hold
it, a chunk at a time. Numbers are unpacked by the `gguf` package itself. Read `gguf_file.py` next.
"""

import numpy as np
from numpy.typing import NDArray

from outsize.formats.gguf_types import BlockType, GgufTensor
from outsize.formats.ranged import RangedFile
from outsize.formats.source import Float32Array

CHUNK_ELEMENTS = 1 << 18


def unpack(packed: NDArray[np.uint8], block_type: BlockType) -> Float32Array:
    """Return the numbers of whole blocks, flat.

    Raises:
        NotImplementedError: the `gguf` package cannot unpack this type.

    Cost: 4 bytes an element for the result and several times that in temporaries until the call
    returns.
    """
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    if packed.size == 0:
        return np.empty(0, dtype=np.float32)
    kind = GGMLQuantizationType(block_type.number)
    with np.errstate(all="ignore"):  # a NaN scale in the file is the model's, not ours
        # one long row: the package loops in Python over groups of 16 rows
        flat: Float32Array = dequantize(packed.reshape(1, -1), kind).reshape(-1)
    return flat


def read_plain(file: RangedFile, tensor: GgufTensor, start: int, stop: int) -> Float32Array:
    """Read a range of a tensor that lies in the file as in the state dict."""
    block = tensor.block_type
    values = np.empty(stop - start, dtype=np.float32)
    step = max(1, CHUNK_ELEMENTS // block.block_elements)
    last_block = -(-stop // block.block_elements)
    for first in range(start // block.block_elements, last_block, step):
        count = min(step, last_block - first)
        packed = file.read(tensor.offset + first * block.block_bytes, count * block.block_bytes)
        flat = unpack(np.frombuffer(packed, np.uint8), block)
        flat_start = first * block.block_elements
        begin, end = max(start, flat_start), min(stop, flat_start + flat.size)
        values[begin - start : end - start] = flat[begin - flat_start : end - flat_start]
    return values


def read_plus_one(file: RangedFile, tensor: GgufTensor, start: int, stop: int) -> Float32Array:
    """Read a range of a norm weight that is stored plus one."""
    values = read_plain(file, tensor, start, stop)
    values -= np.float32(1)
    return values


def read_rotary(
    file: RangedFile, tensor: GgufTensor, start: int, stop: int, half_rows: int
) -> Float32Array:
    """Read a range of a query or key projection whose heads have interleaved rows.

    Row `half * half_rows + i` of a head is row `2 * i + half` in the file. Rows of one half are
    read in one span, every second row of which is used, so the bytes read are twice those asked
    for.
    """
    row_elements = tensor.shape[1] if len(tensor.shape) == 2 else 1
    values = np.empty(stop - start, dtype=np.float32)
    max_rows = max(1, CHUNK_ELEMENTS // row_elements)
    row, last_row = start // row_elements, -(-stop // row_elements)
    while row < last_row:
        head_half, index = divmod(row, half_rows)
        count = min(max_rows, half_rows - index, last_row - row)
        head, half = divmod(head_half, 2)
        first_in_file = head * 2 * half_rows + 2 * index + half
        flat = _read_every_second_row(file, tensor, first_in_file, count, row_elements)
        flat_start = row * row_elements
        begin, end = max(start, flat_start), min(stop, flat_start + flat.size)
        values[begin - start : end - start] = flat[begin - flat_start : end - flat_start]
        row += count
    return values


def _read_every_second_row(
    file: RangedFile, tensor: GgufTensor, first: int, count: int, row_elements: int
) -> Float32Array:
    block = tensor.block_type
    row_bytes = row_elements // block.block_elements * block.block_bytes
    span = file.read(tensor.offset + first * row_bytes, (2 * count - 1) * row_bytes)
    rows = np.frombuffer(span, np.uint8).reshape(2 * count - 1, row_bytes)[::2]
    return unpack(np.ascontiguousarray(rows), block)


def read_transposed(file: RangedFile, tensor: GgufTensor, start: int, stop: int) -> Float32Array:
    """Read a range of a matrix that the file holds transposed.

    Cost: reads the whole tensor's bytes once, a chunk at a time, whatever the range.
    """
    block = tensor.block_type
    num_columns, row_elements = (
        tensor.shape
    )  # of the file; the state dict has them the other way round
    first_row, last_row = start // num_columns, -(-stop // num_columns)
    first_block = first_row // block.block_elements
    last_block = -(-last_row // block.block_elements)
    skipped = first_row - first_block * block.block_elements
    row_blocks = row_elements // block.block_elements
    values = np.empty((last_row - first_row, num_columns), dtype=np.float32)
    step = max(1, CHUNK_ELEMENTS // row_elements)
    for column in range(0, num_columns, step):
        count = min(step, num_columns - column)
        row_bytes = row_blocks * block.block_bytes
        packed = np.frombuffer(
            file.read(tensor.offset + column * row_bytes, count * row_bytes), np.uint8
        ).reshape(count, row_blocks, block.block_bytes)[:, first_block:last_block]
        tile = unpack(np.ascontiguousarray(packed), block).reshape(count, -1)
        values[:, column : column + count] = tile[:, skipped : skipped + last_row - first_row].T
    begin = start - first_row * num_columns
    return values.reshape(-1)[begin : begin + stop - start]
