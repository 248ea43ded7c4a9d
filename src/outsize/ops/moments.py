"""An optimizer's moments in 8 bits, and back.

Blocks of 256 numbers share a scale, the block's largest magnitude, in fp32 (Dettmers et al., 2022,
"8-bit optimizers via block-wise quantization", section 2.1). A code `c` of at most `C` stands for
`scale (c / C)^4`: moments span many powers of ten, and the fourth power gives small ones a finer
step, as that paper's dynamic codes do, but by products and roots alone. A second moment is rounded
up to the first code where it would become 0, for it is divided by.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from outsize.spec.moments import BLOCK_ELEMENTS

_SIGNED_MOST = 127.0
_UNSIGNED_MOST = 255.0
_CHUNK_ELEMENTS = 2**18
"""Numbers that pass through the arithmetic at once, so that they stay in a cache."""


class PackedMoment:
    """One moment of a span over its bytes.

    Args:
        view: 1-D uint8 of `spec.moments.moment_bytes`, or more.
        num_elements: how many numbers it holds; a multiple of 4.
        is_signed: whether numbers may be negative, as of every moment but AdamW's second.
    """

    def __init__(self, view: Tensor, num_elements: int, *, is_signed: bool) -> None:
        num_blocks = -(-num_elements // BLOCK_ELEMENTS)
        self._codes = view[:num_elements].view(torch.int8 if is_signed else torch.uint8)
        scales = view[num_elements : num_elements + 4 * num_blocks]
        self._scales = scales.view(torch.float32)
        self._is_signed = is_signed
        self._most = _SIGNED_MOST if is_signed else _UNSIGNED_MOST

    @torch.no_grad()
    def unpack(self) -> Tensor:
        """Return the numbers, fp32.

        Cost: 4 bytes a number, and 3 MiB until the return.
        """
        values = torch.empty(len(self._codes))
        for part, codes, scales in self._chunks(values):
            shares = codes.float().div_(self._most)
            squares = shares * shares
            # The fourth power, with the sign of the first.
            squares.mul_(shares.abs() if self._is_signed else shares).mul_(shares)
            _times(squares, scales, out=part)
        return values

    @torch.no_grad()
    def pack(self, values: Tensor) -> None:
        """Keep the numbers.

        Cost: 3 MiB until the return.
        """
        for part, codes, scales in self._chunks(values):
            whole = len(part) // BLOCK_ELEMENTS * BLOCK_ELEMENTS
            most = part[:whole].view(-1, BLOCK_ELEMENTS).abs().amax(dim=1)
            scales[: len(most)] = most
            if whole < len(part):
                scales[-1] = part[whole:].abs().max()
            shares = torch.empty_like(part)
            _times(part, torch.where(scales > 0, 1 / scales, 0.0), out=shares)
            roots = shares.abs().sqrt_().sqrt_().mul_(self._most).round_().clamp_(0, self._most)
            if self._is_signed:
                roots.copysign_(part)
            else:
                roots = torch.where(part > 0, roots.clamp(min=1), roots)
            codes.copy_(roots)

    def _chunks(self, values: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield parts of the values with their codes and scales."""
        for start in range(0, len(values), _CHUNK_ELEMENTS):
            stop = min(start + _CHUNK_ELEMENTS, len(values))
            first, last = start // BLOCK_ELEMENTS, -(-stop // BLOCK_ELEMENTS)
            yield values[start:stop], self._codes[start:stop], self._scales[first:last]


def _times(values: Tensor, scales: Tensor, *, out: Tensor) -> None:
    """Write each block's numbers times its scale; the last block may be shorter."""
    whole = len(values) // BLOCK_ELEMENTS * BLOCK_ELEMENTS
    blocks = values[:whole].view(-1, BLOCK_ELEMENTS)
    torch.mul(blocks, scales[: len(blocks), None], out=out[:whole].view(-1, BLOCK_ELEMENTS))
    if whole < len(values):
        torch.mul(values[whole:], scales[-1], out=out[whole:])
