"""The two runs of elements that a layer's tensors are laid in: what steps change, which is cut into
spans, and what they only read. Read `layout.py` next, which makes regions of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from outsize.quantities import align_up
from outsize.spec.model import LayerSpec
from outsize.spec.moments import moment_bytes
from outsize.spec.packing import PackedPlace
from outsize.spec.tensor import PAGE_BYTES, TENSOR_ALIGNMENT_BYTES, TensorSpec
from outsize.values import MomentBits

_ALIGN_ELEMENTS = TENSOR_ALIGNMENT_BYTES // 2
"""Elements between tensor starts: 64 bytes in the narrowest compute dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A tensor at an element offset of its layer's run."""

    tensor: TensorSpec
    start: int

    @property
    def stop(self) -> int:
        """First element after the tensor."""
        return self.start + self.tensor.num_elements


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The part of one tensor that lies in one span.

    Attributes:
        placed: the tensor.
        start: first element of the part, counted from the start of the layer's run.
        stop: first element after it.
    """

    placed: Placed
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class LayerLayout:
    """The run of elements of one layer, cut into spans of `span_elements`."""

    layer: LayerSpec
    span_elements: int

    @cached_property
    def tensors(self) -> tuple[Placed, ...]:
        """Every tensor that steps change, at its offset."""
        return _end_to_end(self.layer.trainable)

    @cached_property
    def num_elements(self) -> int:
        """Elements of their run, padding included."""
        return _run_elements(self.tensors)

    @cached_property
    def frozen(self) -> tuple[Placed, ...]:
        """Every tensor that steps only read, at its offset in a run of its own."""
        return _end_to_end(self.layer.frozen)

    @cached_property
    def frozen_elements(self) -> int:
        """Elements of that run, padding included."""
        return _run_elements(self.frozen)

    @cached_property
    def is_packed(self) -> bool:
        """Whether some of what steps only read is packed, and so has to be unpacked to be used."""
        return any(tensor.packing is not None for tensor in self.layer.frozen)

    @cached_property
    def packed(self) -> tuple[PackedPlace, ...]:
        """Where each tensor that is packed lies among the bytes that rest on disk, in order."""
        places: list[PackedPlace] = []
        for tensor in self.layer.frozen:
            if tensor.packing is not None:
                start = places[-1].stop if places else 0
                places.append(
                    PackedPlace(
                        packing=tensor.packing,
                        num_elements=tensor.num_elements,
                        start=align_up(start, TENSOR_ALIGNMENT_BYTES),
                    )
                )
        return tuple(places)

    def resting_bytes(self, item_bytes: int) -> int:
        """Return the bytes of what steps only read as it rests on disk: packed tensors first, then
        the others, each of `item_bytes` an element.
        """
        if not self.is_packed:
            return self.frozen_elements * item_bytes
        return self.plain_start + item_bytes * _run_elements(self.plain)

    @cached_property
    def plain(self) -> tuple[Placed, ...]:
        """The tensors among the packed ones that are not, in a run after those."""
        return _end_to_end(t for t in self.layer.frozen if t.packing is None)

    @property
    def plain_start(self) -> int:
        """First byte of that run."""
        return align_up(self.packed[-1].stop, TENSOR_ALIGNMENT_BYTES)

    @property
    def num_spans(self) -> int:
        """Number of spans; the last one may be shorter."""
        return -(-self.num_elements // self.span_elements)

    def span(self, index: int) -> tuple[int, int]:
        """Return the first element of span `index` and the first one after it."""
        start = index * self.span_elements
        return start, min(start + self.span_elements, self.num_elements)

    def pieces(self, index: int) -> tuple[Piece, ...]:
        """Return the parts of tensors that lie in span `index`, in order."""
        start, stop = self.span(index)
        return tuple(
            Piece(placed=p, start=max(p.start, start), stop=min(p.stop, stop))
            for p in self.tensors
            if p.start < stop and p.stop > start and p.tensor.num_elements
        )

    def master_bytes(self, index: int) -> int:
        """Bytes of the masters of `state/L/index`, which come first: one fp32 number an element,
        page-aligned.
        """
        start, stop = self.span(index)
        return align_up(4 * (stop - start), PAGE_BYTES)

    def moment_bytes(self, index: int, bits: MomentBits) -> int:
        """Bytes of each of the moments that come after them, page-aligned."""
        start, stop = self.span(index)
        return align_up(moment_bytes(stop - start, bits), PAGE_BYTES)


def _end_to_end(tensors: Iterable[TensorSpec]) -> tuple[Placed, ...]:
    placed, start = [], 0
    for tensor in tensors:
        placed.append(Placed(tensor=tensor, start=start))
        start = align_up(start + tensor.num_elements, _ALIGN_ELEMENTS)
    return tuple(placed)


def _run_elements(placed: Sequence[Placed]) -> int:
    return align_up(placed[-1].stop, _ALIGN_ELEMENTS) if placed else 0
