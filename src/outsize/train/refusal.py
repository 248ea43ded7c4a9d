"""Refuse a budget with what would be needed, what it is needed for, and remedies that work."""

from dataclasses import replace

import torch

from outsize.errors import BudgetError, Contributor, Remedy
from outsize.models.layered import Batch, LayeredModel
from outsize.plan.layout import Layout, role
from outsize.plan.residency import DoesNotFitError
from outsize.quantities import align_up
from outsize.spec.machine import MachineProfile
from outsize.spec.tensor import DTYPE_BYTES
from outsize.store.budget import resident_bytes
from outsize.store.heap import trim_heap
from outsize.train.fit import LEAST_SLACK_BYTES, fit_plans, make_layout, slack_bytes
from outsize.train.options import TrainOptions
from outsize.train.profile import Profile, profile_layers, smallest_arena_bytes

_REMEDY_STEP_BYTES = 8 * 2**20


def refuse_hopeless(layout: Layout, options: TrainOptions, budget_bytes: int) -> None:
    """Refuse, before anything large is touched, what could not fit with the least temporaries."""
    least_bytes = resident_bytes() + smallest_arena_bytes(layout) + LEAST_SLACK_BYTES
    least_bytes += _least_temporaries_bytes(layout)
    if least_bytes <= budget_bytes:
        return
    temporaries_bytes = estimate_temporaries_bytes(layout)
    estimate_bytes = resident_bytes() + smallest_arena_bytes(layout) * 5 // 4 + LEAST_SLACK_BYTES
    estimate_bytes += temporaries_bytes
    raise BudgetError(
        _subject(options),
        needed_bytes=estimate_bytes,
        budget_bytes=budget_bytes,
        tier="host",
        contributors=(
            Contributor(role="interpreter and libraries", size_bytes=resident_bytes()),
            *_largest_roles(layout),
            Contributor(role="temporaries", size_bytes=temporaries_bytes),
        ),
        remedies=(_memory_remedy(estimate_bytes),),
    )


def estimate_temporaries_bytes(layout: Layout) -> int:
    """Return a generous guess of what PyTorch allocates inside the largest action, without running
    it.
    """
    workload, model = layout.workload, layout.model
    item = DTYPE_BYTES[workload.dtype]
    hidden_bytes = workload.micro_batch_tokens * model.hidden_size * item
    block_bytes = 4 * (_least_temporaries_bytes(layout) + 8 * hidden_bytes)
    head_bytes = model.vocab_size * model.hidden_size * item + 20_000_000 * item
    return block_bytes + head_bytes + 64 * 2**20


def _least_temporaries_bytes(layout: Layout) -> int:
    """Return what the products of the widest block give, which autograd holds all at once."""
    item = DTYPE_BYTES[layout.workload.dtype]
    rows = (
        sum(p.tensor.shape[0] for p in layer.tensors if len(p.tensor.shape) > 1)
        for layer in layout.layers[1:-1]
    )
    return layout.workload.micro_batch_tokens * max(rows, default=0) * item


def refusal(
    model: LayeredModel,
    options: TrainOptions,
    batch: Batch,
    budget_bytes: int,
    floor_bytes: int,
    layout: Layout,
    machine: MachineProfile,
    profile: Profile,
) -> BudgetError:
    """Return the error for a budget that no plan fits, or that was passed before there could be
    one; its remedies are planned again.
    """
    needed_bytes = max(floor_bytes, _smallest_budget_bytes(layout, machine, profile))
    remedies = [_memory_remedy(needed_bytes)]
    if floor_bytes <= budget_bytes:
        remedies += _shorter_rows(model, options, batch, budget_bytes, machine)
    return BudgetError(
        _subject(options),
        needed_bytes=needed_bytes,
        budget_bytes=budget_bytes,
        tier="host",
        contributors=(
            Contributor(role="interpreter and libraries", size_bytes=profile.baseline_bytes),
            Contributor(
                role="temporaries", size_bytes=profile.fixed_bytes - profile.baseline_bytes
            ),
            *_largest_roles(layout),
        ),
        remedies=tuple(remedies),
    )


def _smallest_budget_bytes(layout: Layout, machine: MachineProfile, profile: Profile) -> int:
    """Return the smallest host budget that a plan is found for, to 4 MiB."""
    low = smallest_arena_bytes(layout)
    high = 2 * low
    while not _fits(layout, high, machine, profile):
        low, high = high, 2 * high
    while high - low > 4 * 2**20:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(layout, middle, machine, profile) else (middle, high)
    return high + profile.fixed_bytes + slack_bytes(profile)


def _fits(layout: Layout, arena_bytes: int, machine: MachineProfile, profile: Profile) -> bool:
    try:
        fit_plans(layout, arena_bytes, machine, profile)
    except DoesNotFitError:
        return False
    return True


def _shorter_rows(
    model: LayeredModel,
    options: TrainOptions,
    batch: Batch,
    budget_bytes: int,
    machine: MachineProfile,
) -> list[Remedy]:
    """Profile and plan again with rows of half and a quarter the length; return the first that
    fits.
    """
    for divisor in (2, 4):
        length = options.max_seq_length // divisor
        if length < 32:
            return []
        shorter = replace(options, max_seq_length=length)
        layout, kernels = make_layout(model, shorter)
        trim_heap()
        if resident_bytes() + smallest_arena_bytes(layout) + LEAST_SLACK_BYTES > budget_bytes:
            continue
        part = _cut(batch, layout.workload.micro_batch_rows, length)
        profile = profile_layers(model, layout, kernels, part, budget_bytes)
        needed_bytes = _smallest_budget_bytes(layout, machine, profile)
        if needed_bytes <= budget_bytes:
            return [Remedy(change=f"--max-seq-length {length}", needed_bytes=needed_bytes)]
    return []


def _cut(batch: Batch, num_rows: int, length: int) -> Batch:
    """Return the tokens of a batch as shorter rows, repeated as often as it takes."""

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        needed = num_rows * length
        flat = tensor.flatten()
        return flat.repeat(-(-needed // flat.numel()))[:needed].view(num_rows, length)

    return Batch(
        input_ids=cut(batch.input_ids),
        position_ids=cut(batch.position_ids),
        labels=cut(batch.labels),
    )


def _memory_remedy(needed_bytes: int) -> Remedy:
    rounded = align_up(needed_bytes + _REMEDY_STEP_BYTES, _REMEDY_STEP_BYTES)
    return Remedy(change=f"--memory {rounded // 2**20}MiB", needed_bytes=needed_bytes)


def _largest_roles(layout: Layout) -> tuple[Contributor, ...]:
    """The largest regions, one of each role: what the arena must hold at least in part."""
    largest: dict[str, int] = {}
    for name, size in layout.region_bytes.items():
        largest[role(name)] = max(size, largest.get(role(name), 0))
    ordered = sorted(largest.items(), key=lambda entry: -entry[1])[:3]
    return tuple(Contributor(role=f"largest {name}", size_bytes=size) for name, size in ordered)


def _subject(options: TrainOptions) -> str:
    return (
        f"Training {options.model} with tokens_per_step={options.tokens_per_step}, "
        f"max_seq_length={options.max_seq_length}"
    )
