"""A layer's frozen tensors between the form that rests on disk and the one that is used."""

from collections.abc import Callable

import torch
from torch import Tensor

from outsize.errors import FormatError
from outsize.ops.packing import CHUNK_ELEMENTS, PackedMatrix
from outsize.plan.layer_layout import LayerLayout
from outsize.train.views import as_bytes, run_tensors

ReadTensor = Callable[[str, int, int], Tensor]
"""Returns elements start..stop of a tensor, flattened, fp32."""


def unpack_layer(
    layer: LayerLayout, resting: memoryview, run: memoryview, dtype: torch.dtype
) -> None:
    """Write all frozen tensors of a layer into `run`, from where they rest."""
    packed, plain = _resting(layer, resting, dtype)
    for name, values in run_tensors(run, layer.frozen, dtype).items():
        if name in packed:
            packed[name].unpack(values.view(-1))
        else:
            values.copy_(plain[name])


def pack_layer(
    layer: LayerLayout, resting: memoryview, dtype: torch.dtype, read: ReadTensor
) -> None:
    """Write all frozen tensors of a layer as they rest; `read` gives their values.

    Cost: a few chunks in fp32 until the return.
    """
    packed, plain = _resting(layer, resting, dtype)
    for placed in layer.frozen:
        name, count = placed.tensor.name, placed.tensor.num_elements
        for start in range(0, count, CHUNK_ELEMENTS):
            values = read(name, start, min(start + CHUNK_ELEMENTS, count))
            if name in packed:
                _pack(packed[name], name, start, values)
            else:
                plain[name].view(-1)[start : start + len(values)].copy_(values)


def _pack(matrix: PackedMatrix, name: str, start: int, values: Tensor) -> None:
    try:
        matrix.pack(start, values)
    except ValueError as error:
        raise FormatError(
            f"{name} has numbers that are not finite near element {start}, so it cannot be packed: "
            "the model is damaged."
        ) from error


def _resting(
    layer: LayerLayout, resting: memoryview, dtype: torch.dtype
) -> tuple[dict[str, PackedMatrix], dict[str, Tensor]]:
    """Return the packed tensors and the others over the bytes that rest on disk, by name."""
    if not layer.is_packed:
        return {}, run_tensors(resting, layer.frozen, dtype)
    names = [t.name for t in layer.layer.frozen if t.packing is not None]
    packed = {
        name: PackedMatrix(as_bytes(resting), place)
        for name, place in zip(names, layer.packed, strict=True)
    }
    return packed, run_tensors(resting[layer.plain_start :], layer.plain, dtype)
