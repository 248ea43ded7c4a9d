"""What is known of a model's layers on a machine: measured on them, or worked out from its rates.

No torch in here. `profile.py` measures; the neighbour `kept_profiles.py` keeps what was measured,
so that a later plan need not measure again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from outsize.errors import MachineError
from outsize.plan.cost import CostModel
from outsize.plan.layout import Layout
from outsize.plan.simulate import Costs
from outsize.plan.temporaries import contexts_bytes, temporaries_bytes
from outsize.spec.block import BlockShape
from outsize.spec.machine import MachineProfile, Processor

_PEFT_BYTES = 17 * 2**20
"""What importing PEFT adds to a process that has PyTorch and Transformers; measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What layers take.

    Attributes:
        costs: seconds of each kind of layer; see `plan.simulate.Costs`.
        keeps_products: whether keeping products is among them: there are some, and it fits the
            budget.
        memory_bytes_per_s: rate of the optimizer update, by the bytes that it touches.
        fixed_bytes: resident bytes that are there with any plan: baseline, temporaries, masks of
            all micro-batches.
        baseline_bytes: resident bytes before the first layer ran.
        measured_at: date and time, UTC, in ISO form; None when it was worked out.
    """

    costs: Costs
    keeps_products: bool
    memory_bytes_per_s: float
    fixed_bytes: int
    baseline_bytes: int
    measured_at: str | None = None

    @property
    def temporaries_bytes(self) -> int:
        """What is there with any plan besides the baseline."""
        return self.fixed_bytes - self.baseline_bytes


def expected_profile(
    layout: Layout, blocks: Sequence[BlockShape], machine: MachineProfile, processor: Processor
) -> Profile:
    """Return what the layers of a step should take on a machine where none of them was measured.

    Args:
        layout: the step.
        blocks: what each block computes.
        machine: the machine.
        processor: its processor that computes: the host's, or its accelerator's.

    Raises:
        MachineError: nothing is known of products in the step's dtype.
    """
    _check_dtype(layout, machine, processor)
    model = CostModel(model=layout.model, blocks=blocks, processor=processor)
    temporaries = temporaries_bytes(layout.model, blocks, layout.workload)
    temporaries += contexts_bytes(blocks, layout.workload)
    baseline_bytes = machine.baseline_bytes + _PEFT_BYTES * layout.model.has_adapters
    return Profile(
        costs=model.costs(layout.workload),
        keeps_products=layout.num_blocks > 0,
        memory_bytes_per_s=machine.lanes.update_bytes_per_s,
        fixed_bytes=baseline_bytes + temporaries,
        baseline_bytes=baseline_bytes,
    )


def _check_dtype(layout: Layout, machine: MachineProfile, processor: Processor) -> None:
    asked = layout.workload.dtype
    known = sorted({rate.dtype for rate in processor.matmul})
    if asked not in known:
        raise MachineError(
            f"The profile of {machine.name} has no rates of {asked} products for {processor.name}, "
            f"only of {' and '.join(known)}; use --dtype {known[0]}, or a profile that "
            "`outsize probe` measured."
        )
