"""Frozen matrices in fewer bits: what a packed matrix takes, and where its parts lie.

Blocks of 64 numbers share a scale, the block's largest magnitude. Codes are the nearest of 16
levels that are equally likely for normally distributed numbers (NF4: Dettmers et al., 2023, "QLoRA:
Efficient Finetuning of Quantized LLMs", appendix E), or whole numbers to 127. The scales are packed
too, into 8 bits with one fp32 scale for 256 of them (the same paper, "double quantization", here
linear). `ops/packing.py` does the arithmetic.
"""

from dataclasses import dataclass

from outsize.quantities import align_up
from outsize.spec.tensor import TENSOR_ALIGNMENT_BYTES
from outsize.values import Packing

BLOCK_ELEMENTS = 64
GROUP_BLOCKS = 256
GROUP_ELEMENTS = BLOCK_ELEMENTS * GROUP_BLOCKS

_CODE_BITS: dict[Packing, int] = {"nf4": 4, "int8": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedPlace:
    """Where the parts of one packed matrix lie in a region, in bytes from its start.

    Attributes:
        packing: how it is packed.
        num_elements: of the matrix.
        start: of the codes.
    """

    packing: Packing
    num_elements: int
    start: int

    @property
    def num_blocks(self) -> int:
        """Blocks that share a scale; the last one may be shorter."""
        return -(-self.num_elements // BLOCK_ELEMENTS)

    @property
    def num_groups(self) -> int:
        """Groups of blocks whose scales share a scale."""
        return -(-self.num_blocks // GROUP_BLOCKS)

    @property
    def codes_bytes(self) -> int:
        """Bytes of the codes; two of 4 bits in each byte, the earlier one in the low half."""
        return -(-self.num_elements * _CODE_BITS[self.packing] // 8)

    @property
    def scales_start(self) -> int:
        """First byte of the uint8 scales of blocks."""
        return align_up(self.start + self.codes_bytes, TENSOR_ALIGNMENT_BYTES)

    @property
    def groups_start(self) -> int:
        """First byte of the fp32 scales of groups."""
        return align_up(self.scales_start + self.num_blocks, TENSOR_ALIGNMENT_BYTES)

    @property
    def stop(self) -> int:
        """First byte after all of it."""
        return self.groups_start + 4 * self.num_groups
