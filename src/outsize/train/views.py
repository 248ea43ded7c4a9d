"""Windows of a region as tensors: parameters, gradients, masters and moments are never copies.

A region is a memoryview of the arena; every tensor made here shares its bytes.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from outsize.ops.pieces import StatePiece
from outsize.plan.layer_layout import LayerLayout, Piece, Placed


def as_bytes(view: memoryview) -> Tensor:
    """Return the region as a 1-D uint8 tensor."""
    return torch.frombuffer(view, dtype=torch.uint8)


def as_tensor(view: memoryview, dtype: torch.dtype, start: int, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor over `view` that begins at element `start`."""
    count = 1
    for size in shape:
        count *= size
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    offset = start * dtype.itemsize
    return torch.frombuffer(view, dtype=dtype, count=count, offset=offset).view(shape)


def run_tensors(view: memoryview, run: Iterable[Placed], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return every tensor of a layer's run, by name, over its region: `weights`, `gradient` or
    `base`.
    """
    return {p.tensor.name: as_tensor(view, dtype, p.start, p.tensor.shape) for p in run}


def run_piece(view: memoryview, piece: Piece, dtype: torch.dtype) -> Tensor:
    """Return the elements of `piece` in a layer's run (`weights` or `gradient`), 1-D."""
    return as_tensor(view, dtype, piece.start, (piece.stop - piece.start,))


def state_piece(
    view: memoryview, layout: LayerLayout, span: int, piece: Piece, num_moments: int
) -> StatePiece:
    """Return master and moments of `piece` in the region of its span, 1-D fp32."""
    first, _ = layout.span(span)
    stride = layout.component_bytes(span) // 4
    shape = (piece.stop - piece.start,)
    master, *moments = (
        as_tensor(view, torch.float32, component * stride + piece.start - first, shape)
        for component in range(1 + num_moments)
    )
    return StatePiece(master=master, moments=tuple(moments))
