"""What an optimizer's moments take in memory and on disk."""

from outsize.values import MomentBits

BLOCK_ELEMENTS = 256
"""Numbers in 8 bits that share a scale; `ops/moments.py` does the arithmetic."""


def moment_bytes(num_elements: int, bits: MomentBits) -> int:
    """Return the bytes of a moment: 4 for each number, or one, and 4 for each block."""
    if bits == 32:
        return 4 * num_elements
    return num_elements + 4 * -(-num_elements // BLOCK_ELEMENTS)
