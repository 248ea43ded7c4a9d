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


@cache
def block_types() -> Mapping[int, BlockType]:
    """Return every tensor type that the `gguf` package knows, by its number in files."""
    from gguf.constants import GGML_QUANT_SIZES

    return {
        int(kind): BlockType(
            number=int(kind), name=kind.name, block_elements=sizes[0], block_bytes=sizes[1]
        )
        for kind, sizes in GGML_QUANT_SIZES.items()
    }
