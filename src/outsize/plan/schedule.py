"""The compute-only list of one train step, and which regions each action touches.

Layer by layer, all micro-batches; packed weights are unpacked before the first of them. The
optimizer update of a layer is deferred to the next step's forward, right before the layer runs: the
global gradient norm is then known, and the update's traffic hides behind the forward of the layer
before. `uses` is the single source of truth about reads and writes; every later pass asks it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from outsize.plan import layout as names
from outsize.plan.actions import Compute, Update, UpdateKind, Work
from outsize.plan.layout import Layout

Mode = Literal["read", "modify", "write"]
"""`write` makes the whole content new; `modify` needs the old one and changes it."""

UpdateOn = Literal["device", "host"]
"""Where the optimizer's arithmetic runs on a machine that has a device."""


@dataclass(frozen=True, slots=True)
class Use:
    """One region that an action touches."""

    region: str
    mode: Mode


def train_step(layout: Layout, kind: UpdateKind = "optimizer", ahead: int = 1) -> tuple[Work, ...]:
    """Return one train step: pending updates merged into the forward, then the backward, down to
    the first layer that has something to train.

    The spans of a layer's update are dealt out between the micro-batches of the layer before, so
    that their transfers and the layer's arithmetic overlap with a small arena; or of the one that
    is `ahead` layers before, at least 1.
    """
    head = len(layout.layers) - 1
    micro_batches = range(layout.workload.num_micro_batches)
    at_once = range(min(ahead, head + 1))
    actions: list[Work] = [u for layer in at_once for u in _updates(layout, layer, kind)]
    for layer in range(head):
        following = list(_updates(layout, layer + ahead, kind)) if layer + ahead <= head else []
        actions += _unpacking(layout, layer)
        for m in micro_batches:
            actions.append(Compute(layer, "forward", m))
            actions += _share(following, m, len(micro_batches))
    for layer in range(head, layout.model.lowest_trained - 1, -1):
        actions += _unpacking(layout, layer)
        actions += (Compute(layer, "backward", m) for m in micro_batches)
        if layout.workload.clip and layout.layers[layer].num_elements:
            actions.append(Compute(layer, "gradient_norm", 0))
    return tuple(actions)


def evaluate_step(layout: Layout) -> tuple[Work, ...]:
    """Return the forward of one step and the loss of each micro-batch, without any gradient."""
    actions: list[Work] = []
    for layer in range(len(layout.layers)):
        actions += _updates(layout, layer, "derive")
        actions += _unpacking(layout, layer)
        actions += (Compute(layer, "evaluate", m) for m in range(layout.workload.num_micro_batches))
    return tuple(actions)


def _updates(layout: Layout, layer: int, kind: UpdateKind) -> Iterator[Work]:
    return (Update(layer, span, kind) for span in range(layout.layers[layer].num_spans))


def _unpacking(layout: Layout, layer: int) -> tuple[Work, ...]:
    """What makes a layer's weights ready, once for all micro-batches."""
    return (Compute(layer, "unpack", 0),) if layout.layers[layer].is_packed else ()


def _share(items: list[Work], index: int, count: int) -> list[Work]:
    return items[index * len(items) // count : (index + 1) * len(items) // count]


def uses(layout: Layout, action: Work) -> tuple[Use, ...]:
    """Return the regions that an action touches and how; remembered with the layout."""
    found = layout.memo.get(action)
    if found is None:
        found = layout.memo[action] = _uses(layout, action)
    return found


def _uses(layout: Layout, action: Work) -> tuple[Use, ...]:
    match action:
        case Update(layer, span, kind):
            return _update_uses(layer, span, kind)
        case Compute(layer, "forward", m):
            output = Use(names.boundary(layer + 1, m), "write")
            return (*_input_uses(layout, layer, m), output, *_kept(layout, layer, m, "write"))
        case Compute(layer, "evaluate", m):
            return (*_input_uses(layout, layer, m), *_evaluated(layout, layer, m))
        case Compute(layer, "unpack", _):
            return (Use(names.base(layer), "read"), Use(names.unpacked(layer), "write"))
        case Compute(layer, "gradient_norm", _):
            return (Use(names.gradient(layer), "read"), Use(names.norm_copy(layer), "write"))
        case Compute(layer, _, m):
            return _backward_uses(layout, layer, m)


def _update_uses(layer: int, span: int, kind: UpdateKind) -> tuple[Use, ...]:
    weights = Use(names.weights(layer), "modify" if span else "write")
    if kind == "derive":
        return (Use(names.state(layer, span), "read"), weights)
    pending = Use(names.gradient(layer), "read")
    return (Use(names.state(layer, span), "modify"), pending, weights)


def _input_uses(layout: Layout, layer: int, m: int) -> tuple[Use, ...]:
    regions = (layout.frozen(layer), names.weights(layer))
    own = tuple(Use(region, "read") for region in regions if region in layout.region_bytes)
    return own if layer == 0 else (*own, Use(names.boundary(layer, m), "read"))


def _kept(layout: Layout, layer: int, m: int, mode: Mode) -> tuple[Use, ...]:
    """What a block's forward leaves for its backward besides its boundary."""
    regions = (names.attention(layer, m), names.products(layer, m))
    return tuple(Use(region, mode) for region in regions if region in layout.region_bytes)


def _evaluated(layout: Layout, layer: int, m: int) -> tuple[Use, ...]:
    if layer == len(layout.layers) - 1:
        return _tied_table(layout)
    return (Use(names.boundary(layer + 1, m), "write"),)


def _tied_table(layout: Layout) -> tuple[Use, ...]:
    return (Use(layout.table, "read"),) if layout.model.tied is not None else ()


def _gradient_flow(layout: Layout, layer: int, m: int) -> tuple[Use, ...]:
    """What a backward does with the gradient that flows from the head to the lowest layer that has
    something to train: the layers between change it, that one has no use for it afterwards.
    """
    is_head, is_lowest = layer == len(layout.layers) - 1, layer == layout.model.lowest_trained
    if is_head:
        return () if is_lowest else (Use(names.boundary_gradient(m), "write"),)
    return (Use(names.boundary_gradient(m), "read" if is_lowest else "modify"),)


def _backward_uses(layout: Layout, layer: int, m: int) -> tuple[Use, ...]:
    model = layout.model
    head, tied = len(layout.layers) - 1, model.tied is not None and model.trains_table
    accumulate: Mode = "modify" if m else "write"
    found = [*_input_uses(layout, layer, m), *_kept(layout, layer, m, "read")]
    found += _gradient_flow(layout, layer, m)
    if layer == head:
        found += _tied_table(layout)
    if layer == 0:
        found += (Use(names.tied_rows(m), "read"),) if tied else ()
        accumulate = "modify" if tied else accumulate
    elif layer == head and tied:
        found += (Use(names.gradient(0), accumulate), Use(names.tied_rows(m), "write"))
    if layer == head and model.trains_projection:
        found.append(Use(names.PROJECTION_GRADIENT, "write"))
    if layout.layers[layer].num_elements:
        found.append(Use(names.gradient(layer), accumulate))
    return tuple(found)
