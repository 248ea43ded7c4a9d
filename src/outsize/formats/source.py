"""What every reader of model files offers: names, shapes, and any range of any tensor as float32.

A source never hands out a whole file and never maps one into memory: callers ask for elements
`start` to `stop` of one flattened tensor and get exactly those, decoded. Names and shapes are those
of the Hugging Face state dict, whatever the file calls them. Read `safetensors.py` and
`gguf_file.py` next.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:  # names and shapes are read without NumPy, which takes a tenth of a second
    import numpy as np
    from numpy.typing import NDArray

Float32Array: TypeAlias = "NDArray[np.float32]"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor that rests in a model file.

    Attributes:
        name: its name in the state dict of the Hugging Face model class.
        shape: its shape in that state dict; scalars have the empty shape.
        dtype: the encoding in the file, as the file's format spells it, for example `BF16` or
            `Q4_1`.
        file: the file that holds it.
        num_bytes: how many bytes it takes there.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    num_bytes: int

    @property
    def num_elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class WeightSource(Protocol):
    """Named tensors in files, readable by ranges."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor by its state-dict name, in the order of the files."""
        ...

    def read(self, name: str, start: int, stop: int) -> Float32Array:
        """Return elements `start` to `stop` of the row-major flattened tensor as float32.

        Args:
            name: a key of `tensors`.
            start: first element, from 0.
            stop: one past the last element, at most the tensor's number of elements.

        Raises:
            FormatError: the encoding cannot be decoded, or the file ended early; names file and
                tensor.
            StorageError: the disk failed.

        Cost: 4 bytes an element for the result, plus a few MiB until the call returns. Leaves no
        page cache behind.
        """
        ...

    def close(self) -> None:
        """Close the files; the source cannot be read afterwards."""
        ...


def check_range(tensor: StoredTensor, start: int, stop: int) -> None:
    """Assert that a range lies inside a tensor; a wrong one is a bug of the caller."""
    assert 0 <= start <= stop <= tensor.num_elements, (tensor.name, start, stop, tensor.shape)
