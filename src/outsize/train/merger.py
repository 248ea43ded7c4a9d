"""A model's weights with adapters in them, read by ranges like any other model's.

`W` becomes `W + scaling B A`, and with a magnitude `m (W + scaling B A)` over the norm of each row;
see `spec/adapter.py` for the sources. Sums are made in fp32, some rows at a time. No PyTorch in
here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from outsize.errors import ModelError
from outsize.formats.source import Float32Array, StoredTensor, WeightSource
from outsize.spec.adapter import adapt, has_in_first
from outsize.spec.model import ModelSpec
from outsize.train.merge_source import Adapters

CHUNK_ELEMENTS = 2**20

_ROWS_BYTES = 36 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """One adapter in fp32: `down [r, in]`, `up [out, r]`, and `factors [out]` of the matrix's rows,
    None without a magnitude.
    """

    module: str
    down: Float32Array
    up: Float32Array
    scaling: float
    factors: "Float32Array | None" = None


class MergedWeights:
    """A `WeightSource` over a model's weights and adapters; closes both.

    Args:
        spec: the model as it is.
        source: its weights.
        adapters: adapters of it.

    Attributes:
        spec: the model with the adapters.
        modules: names of the modules that have one.

    Raises:
        ModelError: an adapter fits no matrix of the model, or has another shape.

    Cost: the adapter that was read last in fp32.
    """

    def __init__(self, spec: ModelSpec, source: WeightSource, adapters: Adapters) -> None:
        self.spec = adapt(spec, adapters.settings)
        self._source = source
        self._adapters = adapters
        self._in_first = has_in_first(spec.architecture)
        self._held: _Pair | None = None
        wanted = {t.name: t.shape for la in self.spec.layers for t in la.tensors if t.added}
        _check_adapters(wanted, adapters.tensors)
        self.modules = frozenset(name.partition(".lora_")[0] for name in wanted)

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor by its state-dict name."""
        return self._source.tensors

    @property
    def reading_bytes(self) -> int:
        """Bytes that reading takes besides what is returned: an adapter, rows of its product and of
        the matrix, and a region of a run's state.
        """
        return 2 * self.largest_bytes + _ROWS_BYTES

    @property
    def largest_bytes(self) -> int:
        """Bytes of the largest adapter in fp32."""
        sizes: dict[str, int] = {}
        for name, tensor in self._adapters.tensors.items():
            module = name.partition(".lora_")[0]
            sizes[module] = sizes.get(module, 0) + 4 * tensor.num_elements
        return max(sizes.values())

    def read(self, name: str, start: int, stop: int) -> Float32Array:
        """Return elements `start` to `stop` of a tensor; see `WeightSource.read`.

        Cost: of a matrix with an adapter, the whole rows that the range lies in, twice in fp32.
        """
        module = name.removesuffix(".weight")
        if module == name or module not in self.modules or start == stop:
            return self._source.read(name, start, stop)
        shape = self._source.tensors[name].shape
        pair = self._pair(module, name, shape)
        first, last = start // shape[1], -(-stop // shape[1])
        rows = self._rows(name, shape, pair, first, last)
        if pair.factors is not None:
            rows *= pair.factors[None, :] if self._in_first else pair.factors[first:last, None]
        return rows.reshape(-1)[start - first * shape[1] : stop - first * shape[1]]

    def close(self) -> None:
        """Close the files, and let other processes at the run."""
        self._source.close()
        self._adapters.close()

    def _rows(
        self, name: str, shape: tuple[int, ...], pair: _Pair, first: int, last: int
    ) -> Float32Array:
        """Return rows of the matrix with its adapter added."""
        values = self._source.read(name, first * shape[1], last * shape[1])
        left, right = pair.up[first:last], pair.down
        if self._in_first:
            left, right = pair.down.T[first:last], pair.up.T
        added = np.float32(pair.scaling) * (left @ right)
        return values.reshape(last - first, shape[1]) + added

    def _pair(self, module: str, name: str, shape: tuple[int, ...]) -> _Pair:
        if self._held is None or self._held.module != module:
            self._held = None  # so that there are never two
            pair = _Pair(
                module=module,
                down=self._whole(f"{module}.lora_A.weight"),
                up=self._whole(f"{module}.lora_B.weight"),
                scaling=self._adapters.settings.scaling(module),
            )
            if f"{module}.lora_magnitude_vector" in self._adapters.tensors:
                pair = replace(pair, factors=self._factors(name, shape, pair))
            self._held = pair
        return self._held

    def _factors(self, name: str, shape: tuple[int, ...], pair: _Pair) -> Float32Array:
        """Return the magnitude over the norm of each row, which takes a pass over the matrix."""
        squares = np.zeros(shape[1] if self._in_first else shape[0])
        for first, last in row_chunks(shape):
            rows = self._rows(name, shape, pair, first, last)
            found = np.square(rows, dtype=np.float64).sum(axis=0 if self._in_first else 1)
            squares[slice(None) if self._in_first else slice(first, last)] += found
        magnitude = self._whole(f"{pair.module}.lora_magnitude_vector")
        return np.asarray(magnitude / np.sqrt(squares), dtype=np.float32)

    def _whole(self, name: str) -> Float32Array:
        tensor = self._adapters.tensors[name]
        return self._adapters.read(name, 0, tensor.num_elements).reshape(tensor.shape)


def row_chunks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows of a matrix, each of about `CHUNK_ELEMENTS`."""
    count = max(1, CHUNK_ELEMENTS // shape[1])
    for first in range(0, shape[0], count):
        yield first, min(first + count, shape[0])


def _check_adapters(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, StoredTensor]
) -> None:
    for name in sorted(wanted.keys() - found.keys()):
        raise ModelError(
            f"The adapters lack {name}, which their configuration asks for in this model."
        )
    for name in sorted(found.keys() - wanted.keys()):
        raise ModelError(
            f"The adapters have {name}, for which there is no place in this model: they belong to "
            "another model or another configuration."
        )
    for name, shape in wanted.items():
        if tuple(found[name].shape) != shape:
            raise ModelError(
                f"The adapter's {name} has shape {tuple(found[name].shape)}; in this model it "
                f"would be {shape}: the adapters belong to another model."
            )
