"""Pack numbers into 4 or 8 bits, and unpack them; see `spec/packing.py` for the format.

Everything runs in fp32 on a few groups at a time. An unpacked number is the product of its level
and its block's scale, rounded once.
"""

import functools

import torch
from torch import Tensor

from outsize.spec.packing import BLOCK_ELEMENTS, GROUP_BLOCKS, GROUP_ELEMENTS, PackedPlace

CHUNK_ELEMENTS = 64 * GROUP_ELEMENTS
"""Elements that are packed or unpacked at once: 4 MiB in fp32."""

NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip

_PLACES = 2**15
"""Steps from 0 to 1 in which a share of the scale is looked up; a level is at least 2600 of them
from the next one.
"""

_LEAST_SCALE = 1e-30
"""A group whose largest number is smaller becomes zeros: its scale could not be divided."""

_INT8_MOST = 127.0
_SCALE_MOST = 255.0


class PackedMatrix:
    """One packed matrix over a region's bytes.

    Args:
        view: 1-D uint8 over the region.
        place: where its parts lie in it.
    """

    def __init__(self, view: Tensor, place: PackedPlace) -> None:
        self._place = place
        self._codes = view[place.start : place.start + place.codes_bytes]
        self._scales = view[place.scales_start : place.scales_start + place.num_blocks]
        groups = view[place.groups_start : place.groups_start + 4 * place.num_groups]
        self._groups = groups.view(torch.float32)

    @torch.no_grad()
    def pack(self, start: int, values: Tensor) -> None:
        """Pack elements `start` and following; `values` fp32, 1-D.

        `start` is a multiple of `GROUP_ELEMENTS`, and so is the number of values, but at the end.

        Raises:
            ValueError: a value is not finite; nothing near it could be kept.
        """
        assert start % GROUP_ELEMENTS == 0
        count = len(values)
        assert count % GROUP_ELEMENTS == 0 or start + count == self._place.num_elements
        blocks = _filled(values, GROUP_ELEMENTS).view(-1, GROUP_BLOCKS, BLOCK_ELEMENTS)
        most = blocks.abs().amax(dim=2)
        groups = most.amax(dim=1)
        if not bool(groups.isfinite().all()):
            raise ValueError("not finite")
        groups = torch.where(groups < _LEAST_SCALE, 0.0, groups)
        # At least 1, so that a block of zeros has a scale to be divided by.
        scales = (most / _nonzero(groups)[:, None] * _SCALE_MOST).ceil_().clamp_(1, _SCALE_MOST)
        first = start // BLOCK_ELEMENTS
        num_blocks = -(-count // BLOCK_ELEMENTS)
        self._scales[first : first + num_blocks] = scales.view(-1)[:num_blocks].to(torch.uint8)
        first //= GROUP_BLOCKS
        self._groups[first : first + len(groups)] = groups
        real = scales * (_nonzero(groups) / _SCALE_MOST)[:, None]
        shares = (blocks / real[:, :, None]).view(-1)[:count]
        self._write_codes(start, shares)

    @torch.no_grad()
    def unpack(self, out: Tensor) -> None:
        """Write all elements into `out`, 1-D of any floating-point type.

        Cost: 20 MiB until the return.
        """
        for start in range(0, self._place.num_elements, CHUNK_ELEMENTS):
            part = out[start : start + CHUNK_ELEMENTS]
            levels = self._levels(start, len(part))
            blocks = _filled(levels, BLOCK_ELEMENTS).view(-1, BLOCK_ELEMENTS)
            first = start // BLOCK_ELEMENTS
            scales = self._scales[first : first + len(blocks)].float()
            group = first // GROUP_BLOCKS
            groups = self._groups[group : group + CHUNK_ELEMENTS // GROUP_ELEMENTS] / _SCALE_MOST
            scales *= groups.repeat_interleave(GROUP_BLOCKS)[: len(scales)]
            part.copy_(blocks.mul_(scales[:, None]).view(-1)[: len(part)])

    def _write_codes(self, start: int, shares: Tensor) -> None:
        if self._place.packing == "int8":
            codes = (shares * _INT8_MOST).round_().clamp_(-_INT8_MOST, _INT8_MOST).to(torch.int8)
            self._codes.view(torch.int8)[start : start + len(shares)] = codes
            return
        places = (shares * _PLACES + _PLACES).round_().clamp_(0, 2 * _PLACES).int()
        found = _nf4_codes().index_select(0, places)
        pairs = _filled(found, 2).view(-1, 2)
        self._codes[start // 2 : start // 2 + len(pairs)] = pairs[:, 0] | (pairs[:, 1] << 4)

    def _levels(self, start: int, count: int) -> Tensor:
        """Return the levels of elements `start` and following, fp32."""
        if self._place.packing == "int8":
            codes = self._codes.view(torch.int8)[start : start + count]
            return codes.float().div_(_INT8_MOST)
        codes = self._codes[start // 2 : start // 2 + -(-count // 2)]
        # Two levels of four bytes are looked up as one number of eight.
        return _nf4_pairs().index_select(0, codes.int()).view(torch.float32)[:count]


def _filled(values: Tensor, multiple: int) -> Tensor:
    """Return the values with zeros after them up to a multiple of so many."""
    missing = -len(values) % multiple
    return torch.nn.functional.pad(values, (0, missing)) if missing else values


def _nonzero(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1.0)


@functools.cache
def _nf4_codes() -> Tensor:
    """Return the code of the level that is nearest to each place from -1 to 1."""
    levels = torch.tensor(NF4_LEVELS)
    places = torch.arange(-_PLACES, _PLACES + 1) / _PLACES
    return torch.bucketize(places, (levels[1:] + levels[:-1]) / 2).to(torch.uint8)


@functools.cache
def _nf4_pairs() -> Tensor:
    """Return the two levels that each byte stands for as the bytes of one int64."""
    levels, codes = torch.tensor(NF4_LEVELS), torch.arange(256)
    return torch.stack((levels[codes & 15], levels[codes >> 4]), dim=1).view(torch.int64).flatten()
