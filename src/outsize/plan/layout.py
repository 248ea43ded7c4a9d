"""Where the bytes of every tensor lie: regions, spans and extents.

The tensors of a layer that steps change are laid end to end in one padded run of elements.
`weights/L` and `gradient/L` hold that run in the dtype that is trained in; `state/L/S` holds one
span of it as fp32 master and moments. A span is a fixed number of elements, so that an update
touches a few MiB whatever the layer's size. What steps only read lies in a second run, `base/L`, in
the compute dtype, or packed, and then `unpacked/L` is the run.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from outsize.plan.layer_layout import LayerLayout
from outsize.quantities import align_up
from outsize.spec.model import ModelSpec
from outsize.spec.tensor import DTYPE_BYTES, PAGE_BYTES, TENSOR_ALIGNMENT_BYTES
from outsize.spec.workload import TrainWorkload

STATE_COMPONENTS = ("master", "exp_avg", "exp_avg_sq")
"""What a span of state holds, one after the other, as far as the optimizer has so many moments."""

NORM_SPAN_ELEMENTS = 64 * 2**20
"""Tensors above this many elements have their norm taken in spans of it, so that the fp32 copy is
at most 256 MiB.
"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Sizes of all regions of a model under a workload.

    Attributes:
        span_elements: elements of one span of optimizer state.
        keeping_blocks: number of blocks, counted from the last one, whose products with their
            weights are kept from the forward for the backward, so that recomputing need not run
            them. What the last blocks keep is needed again soonest.
        pins_products: whether kept products must stay in memory and never go to disk.
        state_copies: places on disk for each durable region: two, of which one is always whole, or
            one that is changed in place.
    """

    model: ModelSpec
    workload: TrainWorkload
    span_elements: int
    keeping_blocks: int = 0
    pins_products: bool = False
    state_copies: int = 2

    @cached_property
    def memo(self) -> dict[Any, Any]:
        """What `schedule.uses` has found for this layout before."""
        return {}

    @property
    def num_blocks(self) -> int:
        """Layers between the first and the last one."""
        return max(0, len(self.model.layers) - 2)

    def keeps_products(self, layer: int) -> bool:
        """Tell whether a layer's products are kept for its backward."""
        last = len(self.model.layers) - 2
        lowest = max(1, self.model.lowest_trained)
        return lowest <= layer <= last and layer > last - self.keeping_blocks

    @cached_property
    def layers(self) -> tuple[LayerLayout, ...]:
        """One layout per layer of the model."""
        return tuple(
            LayerLayout(layer=layer, span_elements=self.span_elements)
            for layer in self.model.layers
        )

    @cached_property
    def region_bytes(self) -> dict[str, int]:
        """Size of every region by name, in bytes, page-aligned."""
        sizes: dict[str, int] = {}
        item = DTYPE_BYTES[self.workload.dtype]
        trained_item = DTYPE_BYTES[self.workload.weights_dtype]
        for index, layer in enumerate(self.layers):
            if layer.frozen_elements:
                sizes[base(index)] = align_up(layer.resting_bytes(item), PAGE_BYTES)
            if layer.is_packed:
                sizes[unpacked(index)] = align_up(layer.frozen_elements * item, PAGE_BYTES)
            run_bytes = align_up(layer.num_elements * trained_item, PAGE_BYTES)
            if run_bytes:
                sizes[weights(index)] = sizes[gradient(index)] = run_bytes
                sizes[norm_copy(index)] = _norm_copy_bytes(layer)
            for span in range(layer.num_spans):
                moment_bytes = layer.moment_bytes(span, self.workload.moment_bits)
                sizes[state(index, span)] = (
                    layer.master_bytes(span) + self.workload.num_moments * moment_bytes
                )
        hidden_bytes = align_up(
            self.workload.micro_batch_tokens * self.model.hidden_size * item, PAGE_BYTES
        )
        for micro_batch in range(self.workload.num_micro_batches):
            for index in range(1, len(self.layers)):
                sizes[boundary(index, micro_batch)] = hidden_bytes
            # Layers below all that is trained have no backward.
            for index in range(max(1, self.model.lowest_trained), len(self.layers) - 1):
                if self.attention_bytes:
                    sizes[attention(index, micro_batch)] = self.attention_bytes
                if self.products_bytes(index):
                    sizes[products(index, micro_batch)] = self.products_bytes(index)
            sizes[boundary_gradient(micro_batch)] = hidden_bytes
            if self.model.tied is not None and self.model.trains_table:
                sizes[tied_rows(micro_batch)] = self.tied_rows_bytes
        if self.model.projection is not None and self.model.trains_projection:
            elements = self.model.tensor(self.model.projection).num_elements
            sizes[PROJECTION_GRADIENT] = align_up(elements * item, PAGE_BYTES)
        return sizes

    @property
    def attention_bytes(self) -> int:
        """Bytes of one attention's output and its fp32 log-sum-exp for one micro-batch; of several
        ones, with what aligning them takes where examples are longer than 32 tokens.
        """
        token_bytes = self.model.attention_heads * (
            self.model.attention_head_size * DTYPE_BYTES[self.workload.dtype] + 4
        )
        if token_bytes and self.workload.packed_attention == "split":
            token_bytes += 2 * TENSOR_ALIGNMENT_BYTES // 32
        return align_up(self.workload.micro_batch_tokens * token_bytes, PAGE_BYTES)

    def products_bytes(self, layer: int) -> int:
        """Bytes of what one micro-batch's products with a layer's matrices return, each matrix
        `[out, in]` used once; 0 when they are not kept. Of a layer that is frozen in part, only
        products with frozen matrices are: those with adapters cost little.
        """
        if not self.keeps_products(layer):
            return 0
        row_bytes = self.workload.micro_batch_tokens * DTYPE_BYTES[self.workload.dtype]
        spec = self.layers[layer].layer
        shapes = (tensor.shape for tensor in spec.frozen or spec.tensors)
        sizes = (shape[0] * row_bytes for shape in shapes if len(shape) == 2)
        return align_up(sum(align_up(n, TENSOR_ALIGNMENT_BYTES) for n in sizes), PAGE_BYTES)

    @property
    def tied_rows_bytes(self) -> int:
        """Bytes of the head's gradient rows of every token that a step can contain."""
        rows = min(self.model.vocab_size, self.workload.tokens_per_step)
        row_bytes = self.model.hidden_size * DTYPE_BYTES[self.workload.dtype]
        return align_up(rows * row_bytes, PAGE_BYTES)

    @cached_property
    def state_bytes(self) -> int:
        """Bytes of masters and moments of the whole model, one copy."""
        return sum(size for name, size in self.region_bytes.items() if role(name) == "state")

    @cached_property
    def base_bytes(self) -> int:
        """Bytes of all that steps only read."""
        return sum(size for name, size in self.region_bytes.items() if role(name) == "base")

    def frozen(self, layer: int) -> str:
        """Name of the region that a layer's frozen tensors are used from."""
        return unpacked(layer) if self.layers[layer].is_packed else base(layer)

    def copies_on_disk(self, region: str) -> int:
        """Number of places on disk for a durable region: what never changes needs one."""
        return 1 if role(region) == "base" else self.state_copies

    @cached_property
    def table(self) -> str:
        """Name of the region that the embedding's table is read from."""
        return weights(0) if self.model.trains_table else self.frozen(0)


def _norm_copy_bytes(layer: LayerLayout) -> int:
    largest = max(placed.tensor.num_elements for placed in layer.tensors)
    return align_up(4 * min(largest, NORM_SPAN_ELEMENTS), PAGE_BYTES)


PROJECTION_GRADIENT = "projection_gradient"
"""Name of the region that one micro-batch's gradient of the output projection is made in."""


def base(layer: int) -> str:
    """Name of the region of a layer's tensors that steps only read."""
    return f"base/{layer}"


def unpacked(layer: int) -> str:
    """Name of the region that a layer's tensors are unpacked into, where some rest packed."""
    return f"unpacked/{layer}"


def weights(layer: int) -> str:
    """Name of the region of a layer's compute weights."""
    return f"weights/{layer}"


def gradient(layer: int) -> str:
    """Name of the region of a layer's gradient."""
    return f"gradient/{layer}"


def state(layer: int, span: int) -> str:
    """Name of the region of one span of a layer's master and moments."""
    return f"state/{layer}/{span}"


def boundary(layer: int, micro_batch: int) -> str:
    """Name of the region of the hidden state that enters `layer`."""
    return f"boundary/{layer}/{micro_batch}"


def attention(layer: int, micro_batch: int) -> str:
    """Name of the region of what a block's attention returned in the forward."""
    return f"attention/{layer}/{micro_batch}"


def products(layer: int, micro_batch: int) -> str:
    """Name of the region of what the products with a block's weights returned in the forward."""
    return f"products/{layer}/{micro_batch}"


def boundary_gradient(micro_batch: int) -> str:
    """Name of the region of the gradient that flows back through the layers."""
    return f"boundary_gradient/{micro_batch}"


def tied_rows(micro_batch: int) -> str:
    """Name of the region of one micro-batch's head gradient at the rows of the step's tokens."""
    return f"tied_rows/{micro_batch}"


def norm_copy(layer: int) -> str:
    """Name of the region that holds one tensor of a layer's gradient in fp32 while its norm is
    taken.
    """
    return f"norm_copy/{layer}"


def role(region: str) -> str:
    """Return the role of a region: the first part of its name."""
    return region.partition("/")[0]


def is_durable(region: str) -> bool:
    """Tell whether a region's bytes are part of what a commit makes durable: the training state,
    and what it was started from and never changes.
    """
    return role(region) in ("state", "base")
