"""The checksum of a transfer, which is part of the format on disk.

It is XXH3-64 over the concatenated 8-byte digests of the transfer's fixed-size blocks, so that
pieces that finish out of order, on several threads, still give one number. `transfer.py` computes
it block by block, `checksum_of` all at once.
"""

from collections.abc import Iterable

import xxhash

from outsize.errors import StorageError

BLOCK_BYTES = 4 * 2**20
"""Bytes that one digest covers; changing it voids stored checksums."""


def block_digest(block: memoryview) -> bytes:
    """Return the 8-byte digest of one block."""
    # update() releases the interpreter lock in every xxhash since 3.0, the one-shot function only
    # since 4.0.
    state = xxhash.xxh3_64()
    state.update(block)
    return state.digest()


def combine_digests(digests: Iterable[bytes]) -> int:
    """Return the checksum of a transfer from the digests of its blocks in order."""
    return xxhash.xxh3_64_intdigest(b"".join(digests))


def checksum_of(buffer: memoryview) -> int:
    """Return the checksum that a transfer of the whole buffer has."""
    starts = range(0, buffer.nbytes, BLOCK_BYTES)
    return combine_digests(block_digest(buffer[start : start + BLOCK_BYTES]) for start in starts)


def verify_checksum(extent: str, place: str, expected: int, actual: int) -> None:
    """Compare what was read with what was written.

    Raises:
        StorageError: they differ; names the extent and the file.
    """
    if actual != expected:
        raise StorageError(
            f"The bytes of {extent!r} read from {place} are not the ones that were written: "
            f"their checksum is {actual:016x} instead of {expected:016x}.\n"
            "  The file was changed by something else or the drive is failing; check the drive "
            "and go on from a copy."
        )
