"""Measure the real layers at the planned micro-batch: seconds and temporaries, before anything
large is allocated.

Every kind of layer runs on windows of a scratch arena no larger than what the largest single action
needs. First a step of one layer of each kind runs in the order of a real step, from an empty heap.
The heap keeps its pages (`store/heap.py`), so what the process holds afterwards, without the arena,
is interpreter, libraries and temporaries: the part of the peak that no plan can change. Then each
kind is timed.
"""

import datetime
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch

from outsize.models.layered import Batch, LayeredModel
from outsize.plan.actions import Compute, Update, Work
from outsize.plan.layout import Layout
from outsize.plan.schedule import train_step, uses
from outsize.plan.simulate import Costs, update_bytes_per_element
from outsize.spec.machine import LayerCost
from outsize.store.arena import HostArena
from outsize.store.budget import resident_bytes
from outsize.store.heap import trim_heap
from outsize.train.kernels import TrainKernels
from outsize.train.measurable import largest_action_bytes
from outsize.train.profiled import Profile
from outsize.train.step_data import PendingUpdate, StepInputs, StepResults

_PATTERN_ELEMENTS = 2**20
_REPLAYS = 2
"""How often temporaries are measured; the least counts, more is how the heap happens to be cut up,
which the slack is for.
"""

_CACHES_BYTES = 256 * 2**20
"""Memory that is written over, as far as the largest action has it, so that as little as possible
of a span of state is in a cache.
"""

_ROUNDS = 3
"""How often each layer is timed; the first time is slower, because it touches fresh pages."""


def profile_layers(
    model: LayeredModel,
    layout: Layout,
    kernels: TrainKernels,
    batches: Sequence[Batch],
    *,
    baseline_bytes: int,
    budget_bytes: int,
) -> Profile:
    """Run each kind of layer forward and backward on micro-batches of real rows.

    Args:
        model: the model.
        layout: the regions of the step.
        kernels: the arithmetic.
        batches: micro-batches as the steps will have them; the seconds are their mean, since rows
            in which two examples meet take longer than others.
        baseline_bytes: resident bytes of the process before any layer ran; what earlier layers left
            counts as temporaries, because a process that runs these alone has to make room for it.
        budget_bytes: of the whole process; what would exceed it is not tried.

    Cost: an arena of `largest_action_bytes` until the return, and the heap's pages, which stay.
    """
    layout = replace(layout, keeping_blocks=0)
    keeping = replace(layout, keeping_blocks=layout.num_blocks)
    arena = HostArena(max(largest_action_bytes(layout), largest_action_bytes(keeping)))
    kernels.pending = PendingUpdate(step=1, learning_rate=0.0, factor=torch.ones(()))
    # The last of a kind: the lowest one that is trained has less to do.
    kinds = {layer.signature: i for i, layer in enumerate(layout.model.layers)}
    worst = _packed(batches[0])
    fixed_bytes = min(
        _replay(model, layout, kernels, arena, set(kinds.values()), worst) for _ in range(_REPLAYS)
    )
    other_contexts = layout.workload.num_micro_batches - 1
    fixed_bytes += other_contexts * model.context(worst).num_bytes()
    layouts = {False: layout}
    fits = fixed_bytes + arena.size_bytes <= budget_bytes
    if fits and keeping.region_bytes != layout.region_bytes:
        layouts[True] = keeping
    found = []
    for batch in batches:
        kernels.inputs = _inputs(model, batch)
        found.append(_time_layers(layouts, kernels, arena, kinds))
    memory_bytes_per_s = _update_rate(layout, kernels, arena, kinds)
    kernels.results = StepResults()
    del kernels.inputs
    arena.close()
    return Profile(
        costs=_mean_costs(found),
        keeps_products=True in layouts,
        memory_bytes_per_s=memory_bytes_per_s,
        fixed_bytes=fixed_bytes,
        baseline_bytes=baseline_bytes,
        measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _mean_costs(found: Sequence[Costs]) -> Costs:
    """Return the mean of what several micro-batches cost."""
    return {
        key: LayerCost(
            forward_s=statistics.fmean(costs[key].forward_s for costs in found),
            backward_s=statistics.fmean(costs[key].backward_s for costs in found),
            unpack_s=statistics.fmean(costs[key].unpack_s for costs in found),
        )
        for key in found[0]
    }


def _time_layers(
    layouts: Mapping[bool, Layout],
    kernels: TrainKernels,
    arena: HostArena,
    kinds: Mapping[str, int],
) -> Costs:
    """Time one layer of each kind, whose index `kinds` has, under each layout in turn."""
    costs: dict[tuple[str, bool], LayerCost] = {}
    for signature, index in kinds.items():
        rounds = [
            {key: _time_layer(layout, kernels, arena, index) for key, layout in layouts.items()}
            for _ in range(_ROUNDS)
        ]
        for key in layouts:
            costs[signature, key] = LayerCost(
                forward_s=min(found[key].forward_s for found in rounds),
                backward_s=min(found[key].backward_s for found in rounds),
                unpack_s=min(found[key].unpack_s for found in rounds),
            )
        # Keeping leaves operations out and adds a copy: if it took longer, that was chance.
        if True in layouts:
            both = costs[signature, True], costs[signature, False]
            costs[signature, True] = min(both, key=lambda cost: cost.forward_s + cost.backward_s)
    return costs


def _update_rate(
    layout: Layout, kernels: TrainKernels, arena: HostArena, kinds: Mapping[str, int]
) -> float:
    """Return the memory rate, in bytes per second, of updating one span of each kind of layer."""
    seconds, elements = 0.0, 0
    for index in kinds.values():
        if layout.layers[index].num_spans:
            first, last = layout.layers[index].span(0)
            update = Update(index, 0, "optimizer")
            seconds += min(_time(layout, kernels, arena, update) for _ in range(_ROUNDS))
            elements += last - first
    return update_bytes_per_element(layout) * elements / max(seconds, 1e-9)


def _replay(
    model: LayeredModel,
    layout: Layout,
    kernels: TrainKernels,
    arena: HostArena,
    sample: Collection[int],
    batch: Batch,
) -> int:
    """Run two steps of the `sample` layers alone, from an empty heap and in the order of a real
    step; the heap keeps the pages that they took. Return the resident bytes without the arena.
    """
    trim_heap()
    for _ in range(2):
        kernels.inputs = _inputs(model, batch)
        kernels.results = StepResults()
        for action in train_step(layout):
            first = action.span == 0 if isinstance(action, Update) else action.micro_batch == 0
            if first and action.layer in sample:
                kernels.run(action, _windows(layout, arena, action))
        del kernels.inputs
    kernels.results = StepResults()
    arena.give_back()
    return resident_bytes()


def _time_layer(layout: Layout, kernels: TrainKernels, arena: HostArena, index: int) -> LayerCost:
    forward_s = backward_s = unpack_s = 0.0
    if layout.layers[index].is_packed:
        unpack_s = _time(layout, kernels, arena, Compute(index, "unpack", 0))
    if index < len(layout.layers) - 1:
        forward_s = _time(layout, kernels, arena, Compute(index, "forward", 0))
    if index >= layout.model.lowest_trained:
        backward_s = _time(layout, kernels, arena, Compute(index, "backward", 0))
    return LayerCost(forward_s=forward_s, backward_s=backward_s, unpack_s=unpack_s)


def _time(layout: Layout, kernels: TrainKernels, arena: HostArena, action: Work) -> float:
    views = _windows(layout, arena, action)
    for view in views.values():
        _fill(view, kernels)
    if isinstance(action, Update):  # in a step its state comes from the drive
        used = sum(view.nbytes for view in views.values())
        touched = min(largest_action_bytes(layout), used + _CACHES_BYTES)
        _fill(arena.view(used, touched - used), kernels)
    start_s = time.perf_counter()
    kernels.run(action, views)
    return time.perf_counter() - start_s


def _windows(layout: Layout, arena: HostArena, action: Work) -> dict[str, memoryview]:
    """Return windows of the arena, end to end, for the regions that an action uses."""
    views, offset = {}, 0
    for use in uses(layout, action):
        size = layout.region_bytes[use.region]
        views[use.region] = arena.view(offset, size)
        offset += size
    return views


def _fill(view: memoryview, kernels: TrainKernels) -> None:
    """Write small numbers, as weights and activations are; zeros or noise bits would change what is
    timed.
    """
    if not view:
        return
    values = torch.frombuffer(view, dtype=kernels.dtype)
    pattern = torch.empty(min(_PATTERN_ELEMENTS, values.numel()), dtype=kernels.dtype)
    pattern.uniform_(0.01, 0.02)
    for part in values.split(pattern.numel()):
        part.copy_(pattern[: part.numel()])


def _inputs(model: LayeredModel, batch: Batch) -> StepInputs:
    rows = torch.unique(batch.input_ids)
    contexts = [model.context(batch)]
    return StepInputs(batches=[batch], scale=1.0, rows=rows, contexts=contexts, dropout="measured")


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
