"""A model's tensors with adapters in them, some rows of a matrix at a time.

`W` becomes `W + scaling B A`, and with a magnitude `m (W + scaling B A)` over the norm of each row;
see `spec/adapter.py` for the sources. Sums are made in fp32. No PyTorch in here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from outsize.errors import ModelError
from outsize.formats.model_spec import KnownModel
from outsize.formats.source import Float32Array, WeightSource
from outsize.spec.adapter import adapt, has_in_first
from outsize.train.merge_source import Adapters

_CHUNK_ELEMENTS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """One adapter in fp32: `down [r, in]`, `up [out, r]`, and `factors [out]` of the matrix's rows,
    None without a magnitude.
    """

    down: Float32Array
    up: Float32Array
    scaling: float
    factors: "Float32Array | None" = None


class Merger:
    """Reads a model's tensors with the adapters in them.

    Raises:
        ModelError: an adapter fits no matrix of the model, or has another shape.
    """

    def __init__(self, known: KnownModel, source: WeightSource, adapters: Adapters) -> None:
        self.spec = adapt(known.spec, adapters.settings)
        self._source = source
        self._adapters = adapters
        self._in_first = has_in_first(known.spec.architecture)
        wanted = {t.name: t.shape for la in self.spec.layers for t in la.tensors if t.added}
        for name in sorted(wanted.keys() ^ adapters.tensors.keys()):
            has, lacks = ("model", "adapters") if name in wanted else ("adapters", "model")
            raise ModelError(
                f"The {has} ask for {name}, which the {lacks} do not have: they belong to another "
                "model or another configuration."
                if has == "adapters"
                else f"The adapters lack {name}, which their configuration asks for in this model."
            )
        for name, shape in wanted.items():
            found = tuple(adapters.tensors[name].shape)
            if found != shape:
                raise ModelError(
                    f"The adapter's {name} has shape {found}; in this model it would be {shape}: "
                    "the adapters belong to another model."
                )
        self.modules = frozenset(name.partition(".lora_")[0] for name in wanted)

    @property
    def largest_bytes(self) -> int:
        """Bytes of the largest adapter in fp32."""
        sizes: dict[str, int] = {}
        for name, tensor in self._adapters.tensors.items():
            module = name.partition(".lora_")[0]
            sizes[module] = sizes.get(module, 0) + 4 * tensor.num_elements
        return max(sizes.values())

    def chunks(self, name: str, shape: tuple[int, ...]) -> Iterator[Float32Array]:
        """Yield a tensor's elements in order, whole rows of a matrix with an adapter at a time."""
        module = name.removesuffix(".weight")
        if module not in self.modules or module == name:
            num = int(np.prod(shape))
            for start in range(0, num, _CHUNK_ELEMENTS):
                yield self._source.read(name, start, min(start + _CHUNK_ELEMENTS, num))
            return
        pair = self._pair(module)
        if f"{module}.lora_magnitude_vector" in self._adapters.tensors:
            pair = self._with_factors(module, name, shape, pair)
        for start, rows in self._rows(name, shape, pair):
            if pair.factors is not None:
                one = pair.factors[None, :] if self._in_first else pair.factors[start:][: len(rows)]
                rows *= one if self._in_first else one[:, None]
            yield rows.reshape(-1)

    def _rows(
        self, name: str, shape: tuple[int, ...], pair: _Pair
    ) -> Iterator[tuple[int, Float32Array]]:
        """Yield the number of a first row, and rows of the matrix with its adapter added."""
        count = max(1, _CHUNK_ELEMENTS // shape[1])
        for start in range(0, shape[0], count):
            stop = min(start + count, shape[0])
            values = self._source.read(name, start * shape[1], stop * shape[1])
            rows = values.reshape(stop - start, shape[1])
            left, right = pair.up[start:stop], pair.down
            if self._in_first:
                left, right = pair.down.T[start:stop], pair.up.T
            rows = rows + np.float32(pair.scaling) * (left @ right)
            yield start, rows

    def _pair(self, module: str) -> _Pair:
        return _Pair(
            down=self._whole(f"{module}.lora_A.weight"),
            up=self._whole(f"{module}.lora_B.weight"),
            scaling=self._adapters.settings.scaling(module),
        )

    def _with_factors(self, module: str, name: str, shape: tuple[int, ...], pair: _Pair) -> _Pair:
        """Add the magnitude over the norm of each row, which takes a pass over the matrix."""
        squares = np.zeros(shape[1] if self._in_first else shape[0])
        for start, rows in self._rows(name, shape, pair):
            found = np.square(rows, dtype=np.float64).sum(axis=0 if self._in_first else 1)
            part = slice(None) if self._in_first else slice(start, start + len(rows))
            squares[part] += found
        magnitude = self._whole(f"{module}.lora_magnitude_vector")
        factors = (magnitude / np.sqrt(squares)).astype(np.float32)
        return _Pair(down=pair.down, up=pair.up, scaling=pair.scaling, factors=factors)

    def _whole(self, name: str) -> Float32Array:
        tensor = self._adapters.tensors[name]
        return self._adapters.read(name, 0, tensor.num_elements).reshape(tensor.shape)
