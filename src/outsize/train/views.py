"""Windows of a region as tensors: parameters, gradients, masters and moments are never copies.

A region is a memoryview of the arena; every tensor made here shares its bytes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from outsize.ops.moments import PackedMoment
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


def span_state(
    view: memoryview, layout: LayerLayout, span: int, num_moments: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return masters and fp32 moments of a whole span in its region, 1-D fp32."""
    first, last = layout.span(span)
    stride = layout.master_bytes(span) // 4
    master, *moments = (
        as_tensor(view, torch.float32, component * stride, (last - first,))
        for component in range(1 + num_moments)
    )
    return master, tuple(moments)


def packed_moments(
    view: memoryview, layout: LayerLayout, span: int, num_moments: int
) -> tuple[PackedMoment, ...]:
    """Return the moments of a whole span that are kept in 8 bits; AdamW's second one, the only
    second one there is, has no sign.
    """
    first, last = layout.span(span)
    stride, data = layout.moment_bytes(span, 8), as_bytes(view)[layout.master_bytes(span) :]
    return tuple(
        PackedMoment(data[index * stride :], last - first, is_signed=index == 0)
        for index in range(num_moments)
    )


def state_piece(
    master: Tensor, moments: Sequence[Tensor], layout: LayerLayout, span: int, piece: Piece
) -> StatePiece:
    """Return the part of a span's masters and moments that belongs to `piece`."""
    first, _ = layout.span(span)
    part = slice(piece.start - first, piece.stop - first)
    return StatePiece(master=master[part], moments=tuple(moment[part] for moment in moments))
