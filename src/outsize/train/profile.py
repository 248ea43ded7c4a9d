"""Measure the real layers at the planned micro-batch: seconds and temporaries, before anything
large is allocated.

Every kind of layer runs once on windows of a scratch arena no larger than what the largest single
action needs. The heap keeps its pages (`store/heap.py`), so what the process holds afterwards,
without the arena, is interpreter, libraries and the temporaries of the largest action together: the
part of the peak that no plan can change.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from outsize.models.layered import Batch, LayeredModel
from outsize.plan.actions import Compute, Update, Work
from outsize.plan.layout import Layout
from outsize.plan.schedule import uses
from outsize.plan.simulate import UPDATE_BYTES_PER_ELEMENT
from outsize.spec.machine import LayerCost
from outsize.store.arena import HostArena
from outsize.store.budget import resident_bytes
from outsize.train.kernels import TrainKernels
from outsize.train.step_data import PendingUpdate, StepInputs, StepResults

_PATTERN_ELEMENTS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What was measured.

    Attributes:
        costs: seconds, by whether products are kept for the backward and then by layer signature;
            without an entry for keeping them where that did not fit the budget.
        memory_bytes_per_s: rate of the optimizer update, by the bytes that it touches.
        fixed_bytes: resident bytes that are there with any plan: baseline, temporaries, masks of
            all micro-batches.
        baseline_bytes: resident bytes before the first layer ran.
    """

    costs: Mapping[bool, Mapping[str, LayerCost]]
    memory_bytes_per_s: float
    fixed_bytes: int
    baseline_bytes: int


def smallest_arena_bytes(layout: Layout) -> int:
    """Return what the regions of the largest single action of a step need together; no plan needs
    less.
    """
    return max(_needed_bytes(layout, action) for action in _all_actions(layout))


def profile_layers(
    model: LayeredModel, layout: Layout, kernels: TrainKernels, batch: Batch, budget_bytes: int
) -> Profile:
    """Run each kind of layer forward and backward on `batch`, one micro-batch of real rows.

    Args:
        model: the model.
        layout: one that does not keep products.
        kernels: the arithmetic.
        batch: one micro-batch.
        budget_bytes: of the whole process; what would exceed it is not tried.

    Cost: an arena of `smallest_arena_bytes` until the return, and the heap's pages, which stay.
    """
    baseline_bytes = resident_bytes()
    keeping = replace(layout, keeps_products=True)
    arena = HostArena(max(smallest_arena_bytes(layout), smallest_arena_bytes(keeping)))
    worst = _packed(batch)
    context_bytes = model.context(worst).num_bytes()
    kernels.pending = PendingUpdate(step=1, learning_rate=0.0, factor=torch.ones(()))
    costs: dict[str, LayerCost] = {}
    update_s, update_elements = 0.0, 0
    for index, layer in enumerate(layout.model.layers):
        if layer.signature in costs:
            continue
        for shape in (worst, batch):
            kernels.inputs = _inputs(model, shape)
            forward_s, backward_s = _time_layer(layout, kernels, arena, index)
        costs[layer.signature] = LayerCost(forward_s=forward_s, backward_s=backward_s)
        if layout.layers[index].num_spans:
            first, last = layout.layers[index].span(0)
            update_s += _time(layout, kernels, arena, Update(index, 0, "optimizer"))
            update_elements += last - first
    all_costs = {False: costs}
    extra_bytes = arena.size_bytes - smallest_arena_bytes(layout)
    if (
        keeping.region_bytes != layout.region_bytes
        and resident_bytes() + extra_bytes <= budget_bytes
    ):
        all_costs[True] = costs | _block_costs(keeping, kernels, arena)
    kernels.results = StepResults()
    del kernels.inputs
    arena.close()
    extra_contexts = layout.workload.num_micro_batches * context_bytes
    return Profile(
        costs=all_costs,
        memory_bytes_per_s=UPDATE_BYTES_PER_ELEMENT * update_elements / max(update_s, 1e-9),
        fixed_bytes=resident_bytes() + extra_contexts,
        baseline_bytes=baseline_bytes,
    )


def _block_costs(layout: Layout, kernels: TrainKernels, arena: HostArena) -> dict[str, LayerCost]:
    """Time each kind of block."""
    costs: dict[str, LayerCost] = {}
    for index, layer in enumerate(layout.model.layers):
        if layer.kind == "block" and layer.signature not in costs:
            forward_s, backward_s = _time_layer(layout, kernels, arena, index)
            costs[layer.signature] = LayerCost(forward_s=forward_s, backward_s=backward_s)
    return costs


def _time_layer(
    layout: Layout, kernels: TrainKernels, arena: HostArena, index: int
) -> tuple[float, float]:
    forward_s = 0.0
    if index < len(layout.layers) - 1:
        forward_s = _time(layout, kernels, arena, Compute(index, "forward", 0))
    backward_s = _time(layout, kernels, arena, Compute(index, "backward", 0))
    return forward_s, backward_s


def _time(layout: Layout, kernels: TrainKernels, arena: HostArena, action: Work) -> float:
    """Return the faster of two runs after a first one that touches the pages."""
    _run(layout, kernels, arena, action)
    times = []
    for _ in range(2):
        start_s = time.perf_counter()
        _run(layout, kernels, arena, action, fill=False)
        times.append(time.perf_counter() - start_s)
    return min(times)


def _run(
    layout: Layout, kernels: TrainKernels, arena: HostArena, action: Work, *, fill: bool = True
) -> None:
    views, offset = {}, 0
    for use in uses(layout, action):
        size = layout.region_bytes[use.region]
        views[use.region] = arena.view(offset, size)
        offset += size
        if fill:
            _fill(views[use.region], kernels)
    kernels.run(action, views)


def _fill(view: memoryview, kernels: TrainKernels) -> None:
    """Write small numbers, as weights and activations are; zeros or noise bits would change what is
    timed.
    """
    values = torch.frombuffer(view, dtype=kernels.dtype)
    pattern = torch.empty(min(_PATTERN_ELEMENTS, values.numel()), dtype=kernels.dtype)
    pattern.uniform_(0.01, 0.02)
    for part in values.split(pattern.numel()):
        part.copy_(pattern[: part.numel()])


def _inputs(model: LayeredModel, batch: Batch) -> StepInputs:
    rows = torch.unique(batch.input_ids)
    return StepInputs(batches=[batch], scale=1.0, rows=rows, contexts=[model.context(batch)])


def _packed(batch: Batch) -> Batch:
    """The same tokens as two packed sequences a row, all with loss: the most that masks and loss
    can take.
    """
    length = batch.position_ids.shape[1]
    half = max(1, length // 2)
    positions = torch.cat([torch.arange(half), torch.arange(length - half)])
    return Batch(
        input_ids=batch.input_ids,
        position_ids=positions.expand_as(batch.position_ids).contiguous(),
        labels=batch.input_ids.clone(),
    )


def _all_actions(layout: Layout) -> Sequence[Work]:
    actions: list[Work] = []
    for index, layer in enumerate(layout.layers):
        actions.append(Compute(index, "backward", 0))
        if index < len(layout.layers) - 1:
            actions.append(Compute(index, "forward", 0))
        if layer.num_spans:
            actions.append(Update(index, 0, "optimizer"))
            actions.append(Compute(index, "gradient_norm", 0))
    return actions


def _needed_bytes(layout: Layout, action: Work) -> int:
    return sum(layout.region_bytes[use.region] for use in uses(layout, action))
