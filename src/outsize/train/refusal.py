"""Refuse a host budget before and after the layers are profiled; `remedies.py` makes the error."""

import torch

from outsize.errors import BudgetError, Contributor
from outsize.models.layered import Batch, LayeredModel
from outsize.plan.choose import Candidate
from outsize.plan.layout import Layout
from outsize.spec.tensor import DTYPE_BYTES
from outsize.store.budget import resident_bytes
from outsize.store.heap import trim_heap
from outsize.train.fit import LEAST_SLACK_BYTES, candidate, make_layouts
from outsize.train.kernels import TrainKernels, make_optimizer
from outsize.train.options import TrainOptions
from outsize.train.profile import largest_action_bytes, profile_layers
from outsize.train.profiled import Profile
from outsize.train.remedies import largest_roles, memory_remedy, no_plan, subject


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
        subject(options),
        needed_bytes=estimate_bytes,
        budget_bytes=budget_bytes,
        tier="host",
        contributors=(
            Contributor(role="interpreter and libraries", size_bytes=resident_bytes()),
            *largest_roles(layout),
            Contributor(role="temporaries", size_bytes=temporaries_bytes),
        ),
        remedies=(memory_remedy(estimate_bytes),),
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
    there could be one; every other request is profiled and planned before it is named.
    """

    def shape_of(asked: TrainOptions) -> Candidate | None:
        *_, layout = make_layouts(asked, model.spec)
        trim_heap()
        if resident_bytes() + largest_action_bytes(layout) + LEAST_SLACK_BYTES > budget_bytes:
            return None
        part = _cut(batch, layout.workload.micro_batch_rows, asked.max_seq_length)
        kernels = TrainKernels(model, layout, make_optimizer(asked))
        found = profile_layers(model, layout, kernels, [part], budget_bytes)
        return candidate(layout, found, asked)

    return no_plan(options, [(one, profile)], budget_bytes, shape_of, floor_bytes)


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
