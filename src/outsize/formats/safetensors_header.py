"""The header of a safetensors file, read as if an enemy had written it.

The layout is eight bytes of length, a JSON object, then the tensors without holes. Every number is
checked against the size of the file before it is used, so a header that lies costs an error and no
memory. Read `safetensors.py` next.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from outsize.errors import FormatError
from outsize.formats.json_scan import JsonScanner
from outsize.formats.ranged import RangedFile

MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 1 << 18
MAX_DIMENSIONS = 16
MAX_NAME_CHARS = 1024

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEntry:
    """One tensor of a safetensors file.

    Attributes:
        name: its name in the file.
        dtype: its encoding, a key of `DTYPE_BITS`.
        shape: its shape.
        offset: first byte, counted from the start of the file.
        num_bytes: how many bytes it takes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


def read_header(file: RangedFile) -> tuple[HeaderEntry, ...]:
    """Return the tensors of one safetensors file in the order of their bytes.

    Raises:
        FormatError: the header is damaged or does not match the file; names the file and the
            tensor.

    Cost: some hundred bytes a tensor; the header itself is never held.
    """
    if file.num_bytes < 8:
        raise FormatError(f"{file.path} is truncated: it has {file.num_bytes} bytes and no header.")
    header_bytes = int.from_bytes(file.read(0, 8), "little")
    if header_bytes > min(file.num_bytes - 8, MAX_HEADER_BYTES):
        raise FormatError(
            f"{file.path} is truncated or is no safetensors file: its header claims "
            f"{header_bytes} bytes, the file has {file.num_bytes} "
            f"and a header may have {MAX_HEADER_BYTES}."
        )
    data_start = 8 + header_bytes
    entries = _scan_entries(JsonScanner(file, 8, header_bytes), file.path, data_start)
    _check_layout(entries, file, data_start)
    return tuple(entries)


def _scan_entries(scan: JsonScanner, path: Path, data_start: int) -> list[HeaderEntry]:
    entries: dict[str, HeaderEntry] = {}
    scan.expect(b"{")
    first = True
    while not scan.accept(b"}"):
        if not first:
            scan.expect(b",")
        first = False
        name = scan.string(MAX_NAME_CHARS)
        scan.expect(b":")
        if name == "__metadata__":
            scan.skip_value()
            continue
        if name in entries:
            raise FormatError(f"{path} names the tensor {name!r} twice.")
        if len(entries) == MAX_TENSORS:
            raise FormatError(f"{path} claims more than {MAX_TENSORS} tensors.")
        entries[name] = _scan_entry(scan, path, name, data_start)
    scan.finish()
    return sorted(entries.values(), key=lambda entry: (entry.offset, entry.num_bytes))


def _scan_entry(scan: JsonScanner, path: Path, name: str, data_start: int) -> HeaderEntry:
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    offsets: tuple[int, ...] | None = None
    scan.expect(b"{")
    while True:
        key = scan.string()
        scan.expect(b":")
        if key == "dtype" and dtype is None:
            dtype = scan.string()
        elif key == "shape" and shape is None:
            shape = scan.integers(MAX_DIMENSIONS)
        elif key == "data_offsets" and offsets is None:
            offsets = scan.integers(2)
        else:
            raise FormatError(
                f"{path}: tensor {name!r} has an unknown or repeated entry {key[:40]!r}."
            )
        if scan.accept(b"}"):
            break
        scan.expect(b",")
    if dtype is None or shape is None or offsets is None or len(offsets) != 2:
        raise FormatError(f"{path}: tensor {name!r} lacks its dtype, shape or data_offsets.")
    _check_size(path, name, dtype, shape, (offsets[0], offsets[1]))
    return HeaderEntry(
        name=name,
        dtype=dtype,
        shape=shape,
        offset=data_start + offsets[0],
        num_bytes=offsets[1] - offsets[0],
    )


def _check_size(
    path: Path, name: str, dtype: str, shape: tuple[int, ...], offsets: tuple[int, int]
) -> None:
    if dtype not in DTYPE_BITS:
        raise FormatError(f"{path}: tensor {name!r} has the unknown dtype {dtype[:40]!r}.")
    num_bits = math.prod(shape) * DTYPE_BITS[dtype]
    claimed_bytes = offsets[1] - offsets[0]
    if num_bits != claimed_bytes * 8:
        raise FormatError(
            f"{path}: tensor {name!r} has shape {list(shape)} and dtype {dtype}, which takes "
            f"{num_bits // 8} bytes, but its range has {claimed_bytes}."
        )


def _check_layout(entries: list[HeaderEntry], file: RangedFile, data_start: int) -> None:
    end = data_start
    for entry in entries:
        if entry.offset != end:
            problem = "overlaps the tensor before it" if entry.offset < end else "leaves a hole"
            raise FormatError(
                f"{file.path}: tensor {entry.name!r} {problem} at byte {entry.offset}."
            )
        end = entry.offset + entry.num_bytes
        if end > file.num_bytes:
            raise FormatError(
                f"{file.path} is truncated: tensor {entry.name!r} ends at byte {end}, "
                f"the file has {file.num_bytes}."
            )
    if end != file.num_bytes:
        raise FormatError(
            f"{file.path} has {file.num_bytes - end} bytes after its last tensor that no "
            "tensor owns."
        )
