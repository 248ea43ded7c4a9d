"""Reads safetensors folders, whole or sharded, by ranges.

One file `model.safetensors`, or an index that names its shards. Names are those of the file,
completed with the prefix that Transformers adds when a checkpoint was saved from the bare decoder.
NumPy is imported where numbers are read, for a plan needs names and shapes alone. Read
`safetensors_header.py` next.
"""

from collections.abc import Mapping
from pathlib import Path

from outsize.errors import FormatError
from outsize.formats.ranged import RangedFile
from outsize.formats.safetensors_header import HeaderEntry, read_header
from outsize.formats.safetensors_index import read_index
from outsize.formats.source import Float32Array, StoredTensor, check_range

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
CHUNK_ELEMENTS = 1 << 20

_NUMPY_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

_BARE_PREFIXES = {
    "model.": ("embed_tokens.", "layers.0."),
    "transformer.": ("wte.", "h.0."),
}
"""Prefix of the decoder inside the causal model, and how names begin that were saved without it."""

_Place = tuple[HeaderEntry, RangedFile]


class SafetensorsSource:
    """A `WeightSource` over a folder of safetensors files.

    Args:
        folder: holds `model.safetensors`, or `model.safetensors.index.json` and its shards.
        single_name: name of the one file, where it is called otherwise.

    Raises:
        FormatError: a file is missing, damaged or hostile; names the file and the tensor.

    Cost: some hundred bytes of host memory a tensor, and one open file a shard.
    """

    def __init__(self, folder: Path, single_name: str = SINGLE_NAME) -> None:
        self._files: dict[Path, RangedFile] = {}
        self._places: dict[str, _Place] = {}
        self._tensors: dict[str, StoredTensor] = {}
        try:
            single = folder / single_name
            self._name_tensors(
                self._open_single(single) if single.exists() else self._open_shards(folder)
            )
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
            FormatError: the dtype is no floating-point type of 16 bits or more.

        Cost: 4 bytes an element, and the bytes of at most `CHUNK_ELEMENTS` elements until the call
        returns.
        """
        tensor = self._tensors[name]
        entry, file = self._places[name]
        check_range(tensor, start, stop)
        if tensor.dtype not in _NUMPY_DTYPES:
            raise FormatError(
                f"{tensor.file}: tensor {name!r} has dtype {tensor.dtype}; "
                f"only {', '.join(_NUMPY_DTYPES)} can be read as weights."
            )
        import numpy as np

        item_bytes = np.dtype(_NUMPY_DTYPES[tensor.dtype]).itemsize
        values = np.empty(stop - start, dtype=np.float32)
        for first in range(start, stop, CHUNK_ELEMENTS):
            count = min(CHUNK_ELEMENTS, stop - first)
            out = values[first - start : first - start + count]
            # passed on unnamed, so that one chunk is gone before the next is read
            _decode(
                file.read(entry.offset + first * item_bytes, count * item_bytes), tensor.dtype, out
            )
        return values

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()

    def _open_single(self, path: Path) -> list[_Place]:
        self._files[path] = RangedFile(path)
        return [(entry, self._files[path]) for entry in read_header(self._files[path])]

    def _open_shards(self, folder: Path) -> list[_Place]:
        weight_map = read_index(folder / INDEX_NAME)
        places: list[_Place] = []
        for shard in dict.fromkeys(weight_map.values()):
            path = folder / shard
            if not path.is_file():
                raise FormatError(
                    f"{folder / INDEX_NAME} names the shard {path}, which is missing."
                )
            found = self._open_single(path)
            _check_shard(folder, path, {entry.name for entry, _ in found}, weight_map)
            places += [place for place in found if weight_map.get(place[0].name) == shard]
        return places

    def _name_tensors(self, places: list[_Place]) -> None:
        prefix = _missing_prefix([entry.name for entry, _ in places])
        for entry, file in places:
            name = prefix + entry.name
            self._places[name] = (entry, file)
            self._tensors[name] = StoredTensor(
                name=name,
                shape=entry.shape,
                dtype=entry.dtype,
                file=file.path,
                num_bytes=entry.num_bytes,
            )


def _check_shard(folder: Path, path: Path, found: set[str], weight_map: Mapping[str, str]) -> None:
    for name, shard in weight_map.items():
        if shard == path.name and name not in found:
            raise FormatError(f"{folder / INDEX_NAME}: tensor {name!r} is not in its shard {path}.")


def _missing_prefix(names: list[str]) -> str:
    for prefix, beginnings in _BARE_PREFIXES.items():
        complete = any(name.startswith(prefix) for name in names)
        if not complete and any(name.startswith(beginnings) for name in names):
            return prefix
    return ""


def _decode(data: bytearray, dtype: str, out: Float32Array) -> None:
    import numpy as np

    stored = np.frombuffer(data, dtype=_NUMPY_DTYPES[dtype])
    if dtype == "BF16":  # a bfloat16 is the upper half of a float32
        np.left_shift(stored, 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        with np.errstate(all="ignore"):  # infinities and NaNs in the file are the model's, not ours
            out[...] = stored
