"""Reads a GGUF file by ranges, as the Hugging Face model that it was converted from.

The header says what lies where, the naming table says what it is called, and `gguf_layouts.py`
reads it, which is imported with NumPy when the first number is read. Whatever cannot be mapped is
refused by name; nothing is left out silently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from outsize.errors import FormatError, ModelError
from outsize.formats.gguf_header import read_header
from outsize.formats.gguf_names import ARCHITECTURES, IGNORED, Layout, Naming, state_dict_name
from outsize.formats.gguf_types import GgufHeader, GgufTensor
from outsize.formats.ranged import RangedFile
from outsize.formats.source import Float32Array, StoredTensor, check_range


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where and how a state-dict tensor lies in the file; `half_rows` is half a head's rows."""

    tensor: GgufTensor
    layout: Layout
    half_rows: int


class GgufSource:
    """A `WeightSource` over one GGUF file.

    A file without `output.weight` has tied embeddings; the source then has no `lm_head.weight`.

    Args:
        path: the file.

    Raises:
        FormatError: the file is damaged, hostile, or has a tensor that its architecture does not
            have.
        ModelError: the architecture cannot be read from GGUF, or the file is one part of several.

    Cost: some hundred bytes of host memory a tensor.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = RangedFile(path)
        self._tensors: dict[str, StoredTensor] = {}
        self._places: dict[str, _Place] = {}
        try:
            self.header = read_header(self._file)
            self._map_tensors(naming_of(path, self.header))
        except BaseException:
            self.close()
            raise

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor by its state-dict name."""
        return self._tensors

    def read(self, name: str, start: int, stop: int) -> Float32Array:
        """Return elements `start` to `stop` of a tensor as float32; see `WeightSource.read`.

        Raises:
            FormatError: the `gguf` package cannot unpack the tensor's type.
        """
        place = self._places[name]
        check_range(self._tensors[name], start, stop)
        try:
            return self._read(place, start, stop)
        except NotImplementedError as error:
            raise FormatError(
                f"{self._file.path}: tensor {place.tensor.name!r} has type "
                f"{place.tensor.block_type.name}, which cannot be read as weights."
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, place: _Place, start: int, stop: int) -> Float32Array:
        from outsize.formats import gguf_layouts as layouts

        match place.layout:
            case Layout.PLAIN:
                return layouts.read_plain(self._file, place.tensor, start, stop)
            case Layout.PLUS_ONE:
                return layouts.read_plus_one(self._file, place.tensor, start, stop)
            case Layout.ROTARY:
                return layouts.read_rotary(self._file, place.tensor, start, stop, place.half_rows)
            case Layout.TRANSPOSED:
                return layouts.read_transposed(self._file, place.tensor, start, stop)

    def _map_tensors(self, naming: Naming) -> None:
        for tensor in self.header.tensors:
            if tensor.name.removesuffix(".weight") in IGNORED:
                continue
            named = state_dict_name(naming, tensor.name)
            if named is None:
                raise FormatError(
                    f"{self._file.path}: tensor {tensor.name!r} does not belong to the "
                    f"architecture {self.header.metadata['general.architecture']!r}."
                )
            name, layout = named
            self._places[name] = self._place(tensor, layout)
            transposed = layout is Layout.TRANSPOSED
            self._tensors[name] = StoredTensor(
                name=name,
                shape=tensor.shape[::-1] if transposed else tensor.shape,
                dtype=tensor.block_type.name,
                file=self._file.path,
                num_bytes=tensor.num_bytes,
            )

    def _place(self, tensor: GgufTensor, layout: Layout) -> _Place:
        if layout is Layout.TRANSPOSED and len(tensor.shape) != 2:
            raise FormatError(f"{self._file.path}: tensor {tensor.name!r} is no matrix.")
        half_rows = self._half_rows(tensor) if layout is Layout.ROTARY else 0
        return _Place(tensor=tensor, layout=layout, half_rows=half_rows)

    def _half_rows(self, tensor: GgufTensor) -> int:
        architecture = self.header.metadata["general.architecture"]
        query_heads = self.header.metadata.get(f"{architecture}.attention.head_count")
        heads = query_heads
        if ".attn_k." in tensor.name:
            key = f"{architecture}.attention.head_count_kv"
            heads = self.header.metadata.get(key, query_heads)
        shape, block = tensor.shape, tensor.block_type
        packed_bias = len(shape) == 1 and block.block_elements > 1
        if type(heads) is not int or heads < 1 or len(shape) not in (1, 2) or packed_bias:
            raise FormatError(
                f"{self._file.path}: tensor {tensor.name!r} of shape {list(shape)} "
                "has no usable number of heads."
            )
        if shape[0] % (2 * heads):
            raise FormatError(
                f"{self._file.path}: tensor {tensor.name!r} has {shape[0]} rows, "
                f"which {heads} heads do not divide."
            )
        return shape[0] // (2 * heads)


def naming_of(path: Path, header: GgufHeader) -> Naming:
    """Return the naming table for a header.

    Raises:
        ModelError: the architecture cannot be read from GGUF, or the file is one part of several.
    """
    parts = header.metadata.get("split.count", 1)
    if parts not in (0, 1):
        raise ModelError(
            f"{path} is one of {parts} parts of a GGUF model; join them first: "
            "llama-gguf-split --merge FIRST_PART JOINED.gguf"
        )
    architecture = header.metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise ModelError(
            f"{path} holds the architecture {architecture!r}, which cannot be read from GGUF; "
            f"these can: {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[architecture]
