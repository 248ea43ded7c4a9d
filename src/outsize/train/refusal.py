"""Refuse a budget with what would be needed, what it is needed for, and remedies that work."""

from dataclasses import replace

import torch

from outsize.errors import BudgetError, Contributor, Remedy
from outsize.models.layered import Batch, LayeredModel
from outsize.plan.choose import Candidate, smallest_budget_bytes
from outsize.plan.layout import Layout, role
from outsize.quantities import align_up
from outsize.spec.tensor import DTYPE_BYTES
from outsize.store.budget import resident_bytes
from outsize.store.heap import trim_heap
from outsize.train.fit import LEAST_SLACK_BYTES, candidate, make_layouts, make_optimizer
from outsize.train.kernels import TrainKernels
from outsize.train.options import TrainOptions
from outsize.train.profile import Profile, largest_action_bytes, profile_layers

_REMEDY_STEP_BYTES = 8 * 2**20


def refuse_hopeless(layout: Layout, options: TrainOptions, budget_bytes: int) -> None:
    """Refuse, before anything large is touched, what could not fit with the least temporaries."""
    least_bytes = resident_bytes() + largest_action_bytes(layout) + LEAST_SLACK_BYTES
    least_bytes += _least_temporaries_bytes(layout)
    if least_bytes <= budget_bytes:
        return
    temporaries_bytes = estimate_temporaries_bytes(layout)
    estimate_bytes = resident_bytes() + largest_action_bytes(layout) * 5 // 4 + LEAST_SLACK_BYTES
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
    one: Candidate,
    profile: Profile,
) -> BudgetError:
    """Return the error for a budget that no plan of candidate `one` fits, or that was passed before
    there could be one; its remedies are planned again.
    """
    layout = one.layout
    needed_bytes = max(floor_bytes, smallest_budget_bytes((one,)))
    remedies = [_memory_remedy(needed_bytes)]
    if floor_bytes <= budget_bytes:
        remedies += _shorter_rows(model, options, batch, budget_bytes)
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
            Contributor(role="slack", size_bytes=one.fixed_bytes - profile.fixed_bytes),
            *_largest_roles(layout),
        ),
        remedies=tuple(remedies),
    )


def _shorter_rows(
    model: LayeredModel,
    options: TrainOptions,
    batch: Batch,
    budget_bytes: int,
) -> list[Remedy]:
    """Profile and plan again with rows of half and a quarter the length; return the first that
    fits.
    """
    for divisor in (2, 4):
        length = options.max_seq_length // divisor
        if length < 32:
            return []
        shorter = replace(options, max_seq_length=length)
        *_, layout = make_layouts(shorter, model.spec)
        trim_heap()
        if resident_bytes() + largest_action_bytes(layout) + LEAST_SLACK_BYTES > budget_bytes:
            continue
        part = _cut(batch, layout.workload.micro_batch_rows, length)
        kernels = TrainKernels(model, layout, make_optimizer(shorter))
        profile = profile_layers(model, layout, kernels, part, budget_bytes)
        needed_bytes = smallest_budget_bytes((candidate(layout, profile, shorter),))
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
