"""What the header of a GGUF file says, as frozen data, and how its tensor types pack numbers.

Read `gguf_header.py` next, which fills them in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

MAX_KEPT_ITEMS = 1024
MAX_KEPT_STRING_BYTES = 4096

Scalar = int | float | bool | str
Value = Scalar | tuple[int | float | bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockType:
    """How one tensor type packs numbers: `block_elements` numbers into `block_bytes` bytes."""

    number: int
    name: str
    block_elements: int
    block_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """One tensor of a GGUF file.

    Attributes:
        name: its name in the file.
        shape: row-major, the reverse of how the file lists it.
        block_type: its encoding.
        offset: first byte, counted from the start of the file.
        num_bytes: how many bytes it takes.
    """

    name: str
    shape: tuple[int, ...]
    block_type: BlockType
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says of itself.

    Attributes:
        metadata: numbers, strings of at most `MAX_KEPT_STRING_BYTES` and lists of at most
            `MAX_KEPT_ITEMS` numbers.
        lengths: the length of every list and every string, kept or not, by key.
        tensors: in the order of the header.
    """

    metadata: Mapping[str, Value]
    lengths: Mapping[str, int]
    tensors: tuple[GgufTensor, ...]


_KNOWN_TYPES = """
0 F32 1 4, 1 F16 1 2, 2 Q4_0 32 18, 3 Q4_1 32 20, 6 Q5_0 32 22, 7 Q5_1 32 24, 8 Q8_0 32 34,
9 Q8_1 32 40, 10 Q2_K 256 84, 11 Q3_K 256 110, 12 Q4_K 256 144, 13 Q5_K 256 176, 14 Q6_K 256 210,
15 Q8_K 256 292, 16 IQ2_XXS 256 66, 17 IQ2_XS 256 74, 18 IQ3_XXS 256 98, 19 IQ1_S 256 50,
20 IQ4_NL 32 18, 21 IQ3_S 256 110, 22 IQ2_S 256 82, 23 IQ4_XS 256 136, 24 I8 1 1, 25 I16 1 2,
26 I32 1 4, 27 I64 1 8, 28 F64 1 8, 29 IQ1_M 256 56, 30 BF16 1 2, 34 TQ1_0 256 54, 35 TQ2_0 256 66,
39 MXFP4 32 17, 40 NVFP4 64 36
"""
"""Number, name, elements and bytes of a block; types of later files are looked up in `gguf`."""


@cache
def block_type(number: int) -> BlockType | None:
    """Return the tensor type with a number in files; None when neither we nor `gguf` know it."""
    return _known_types().get(number) or block_types().get(number)


@cache
def block_types() -> Mapping[int, BlockType]:
    """Return every tensor type that the `gguf` package knows, by its number in files.

    Cost: imports `gguf` and NumPy, a tenth of a second.
    """
    from gguf.constants import GGML_QUANT_SIZES

    return {
        int(kind): BlockType(
            number=int(kind), name=kind.name, block_elements=sizes[0], block_bytes=sizes[1]
        )
        for kind, sizes in GGML_QUANT_SIZES.items()
    }


@cache
def _known_types() -> Mapping[int, BlockType]:
    lines = (entry.split() for entry in _KNOWN_TYPES.split(","))
    return {
        int(number): BlockType(
            number=int(number), name=name, block_elements=int(elements), block_bytes=int(num_bytes)
        )
        for number, name, elements, num_bytes in lines
    }
