"""The bytes of a journal: its first page and its commit records.

Both carry a checksum over everything else in them, so that a torn or damaged one is never taken for
a whole one. A record's payload is JSON, compressed when it is large. `journal.py` says where the
bytes go and when.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import xxhash

from outsize.quantities import align_up
from outsize.spec.tensor import PAGE_BYTES

FORMAT_VERSION = 1
_PAGE_MAGIC = b"outsjrnl"
_RECORD_MAGIC = b"outsrecd"
_COMPRESS_FROM_BYTES = 16 * 2**10

_PAGE = struct.Struct("<8sIQ")  # magic, format version, bytes of a slot; a checksum follows
_HEADER = struct.Struct("<8sIIQQ")  # magic, version, zlib or not, generation, payload bytes
_CHECKSUM = struct.Struct("<Q")  # between header and payload, over both
_PAYLOAD_OFFSET_BYTES = _HEADER.size + _CHECKSUM.size


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstPage:
    """What a journal's first page says.

    Attributes:
        version: format version.
        slot_bytes: size of a slot, whole pages.
    """

    version: int
    slot_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One complete commit record.

    Attributes:
        generation: 1 for the first record of a journal, then one more for each.
        content: what was committed.
    """

    generation: int
    content: Mapping[str, object]


def slot_bytes_for(capacity_bytes: int) -> int:
    """Return the size of a slot for records of up to `capacity_bytes` of JSON."""
    return align_up(_PAYLOAD_OFFSET_BYTES + capacity_bytes, PAGE_BYTES)


def encode_first_page(slot_bytes: int) -> bytes:
    """Return the first page of a journal."""
    fields = _PAGE.pack(_PAGE_MAGIC, FORMAT_VERSION, slot_bytes)
    return (fields + _checksum(fields)).ljust(PAGE_BYTES, b"\0")


def decode_first_page(page: bytes) -> FirstPage | None:
    """Return what the page says; None when it is not a journal's or is damaged."""
    fields = page[: _PAGE.size]
    end = _PAGE.size + _CHECKSUM.size
    if not fields.startswith(_PAGE_MAGIC) or page[_PAGE.size : end] != _checksum(fields):
        return None
    _, version, slot_bytes = _PAGE.unpack(fields)
    return FirstPage(version=version, slot_bytes=slot_bytes)


def encode_record(record: Record) -> bytes:
    """Return the bytes of a record.

    Cost: its JSON, twice, in host memory while it is made.
    """
    payload = json.dumps(record.content, ensure_ascii=False, allow_nan=False).encode()
    is_compressed = len(payload) >= _COMPRESS_FROM_BYTES
    if is_compressed:
        payload = zlib.compress(payload, level=1)
    header = _HEADER.pack(
        _RECORD_MAGIC, FORMAT_VERSION, is_compressed, record.generation, len(payload)
    )
    return header + _checksum(header + payload) + payload


def decode_record(slot: bytes) -> Record | None:
    """Return the record at the start of a slot; None when there is no complete one."""
    if len(slot) < _PAYLOAD_OFFSET_BYTES:
        return None
    magic, version, is_compressed, generation, payload_bytes = _HEADER.unpack_from(slot)
    payload = slot[_PAYLOAD_OFFSET_BYTES : _PAYLOAD_OFFSET_BYTES + payload_bytes]
    if magic != _RECORD_MAGIC or version != FORMAT_VERSION or len(payload) != payload_bytes:
        return None
    stored_checksum = slot[_HEADER.size : _PAYLOAD_OFFSET_BYTES]
    if stored_checksum != _checksum(slot[: _HEADER.size] + payload):
        return None
    content = json.loads(zlib.decompress(payload) if is_compressed else payload)
    return Record(generation=generation, content=content)


def _checksum(content: bytes) -> bytes:
    return _CHECKSUM.pack(xxhash.xxh3_64_intdigest(content))
