"""What measuring a step's layers takes, before it is done. No torch in here."""

from collections.abc import Iterator, Sequence

from outsize.plan.actions import Compute, Update, Work
from outsize.plan.layout import Layout
from outsize.plan.schedule import uses
from outsize.spec.tensor import DTYPE_BYTES
from outsize.train.fit import slack_bytes
from outsize.train.profiled import Profile


def largest_action_bytes(layout: Layout) -> int:
    """Return what the regions of the largest single action of a step need together; no plan needs
    less.
    """
    sizes = layout.region_bytes
    return max(
        sum(sizes[use.region] for use in uses(layout, action)) for action in _all_actions(layout)
    )


def least_temporaries_bytes(layout: Layout) -> int:
    """Return what the products of the widest block give, which autograd holds all at once."""
    item = DTYPE_BYTES[layout.workload.dtype]
    rows = (
        sum(t.shape[0] for t in layer.layer.tensors if len(t.shape) > 1)
        for layer in layout.layers[1:-1]
    )
    return layout.workload.micro_batch_tokens * max(rows, default=0) * item


def generous_temporaries_bytes(layout: Layout) -> int:
    """Return a generous guess of what PyTorch allocates inside the largest action, without running
    it.
    """
    workload, model = layout.workload, layout.model
    item = DTYPE_BYTES[workload.dtype]
    hidden_bytes = workload.micro_batch_tokens * model.hidden_size * item
    block_bytes = 4 * (least_temporaries_bytes(layout) + 8 * hidden_bytes)
    head_bytes = model.vocab_size * model.hidden_size * item + 20_000_000 * item
    return block_bytes + head_bytes + 64 * 2**20


def surely_measurable(
    layout: Layout,
    others: Sequence[Layout],
    known: Profile | None,
    baseline_bytes: int,
    budget_bytes: int,
) -> bool:
    """Tell whether measuring a step's layers certainly stays inside a budget, or whether no other
    shape of the step has a smaller micro-batch, which could be measured instead.

    What was passed once stays the peak of the process, so that no smaller shape could be run then.

    Args:
        layout: the step.
        others: all shapes that the options allow.
        known: what was measured of the step before; None makes it a guess.
        baseline_bytes: resident bytes before.
        budget_bytes: of the process.
    """
    if layout.workload.micro_batch_rows == min(o.workload.micro_batch_rows for o in others):
        return True
    temporaries_bytes = generous_temporaries_bytes(layout)
    if known is not None and known.measured_at is not None:
        temporaries_bytes = known.temporaries_bytes + slack_bytes(layout, known)
    return baseline_bytes + temporaries_bytes + largest_action_bytes(layout) <= budget_bytes


def _all_actions(layout: Layout) -> Iterator[Work]:
    for index, layer in enumerate(layout.layers):
        if layer.is_packed:
            yield Compute(index, "unpack", 0)
        if index >= layout.model.lowest_trained:
            yield Compute(index, "backward", 0)
        if index < len(layout.layers) - 1:
            yield Compute(index, "forward", 0)
        if layer.num_spans:
            yield Update(index, 0, "optimizer")
            yield Compute(index, "gradient_norm", 0)
