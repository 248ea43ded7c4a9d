"""What a train step is given and what it finds: the data that the kernels share with the loop, and
what the loop tells of all steps.
"""

from dataclasses import dataclass, field

from torch import Tensor

from outsize.models.initialise import stream_seed
from outsize.models.layered import Batch, Context


@dataclass(slots=True)
class PendingUpdate:
    """What the deferred update of the step before needs.

    Attributes:
        step: number of the update, from 1.
        learning_rate: of that step.
        factor: 0-dim fp32 factor that clips its gradient; None when clipping is off.
    """

    step: int
    learning_rate: float
    factor: Tensor | None


@dataclass(slots=True)
class StepInputs:
    """The data of the step that runs now.

    Attributes:
        batches: one per micro-batch.
        scale: one over the number of tokens with loss in the step.
        rows: sorted token ids that occur in the step, `[U]`.
        contexts: masks and position embeddings, one per micro-batch.
        dropout: names the random streams of the step's dropout; None is for none.
    """

    batches: list[Batch]
    scale: float
    rows: Tensor
    contexts: list[Context]
    dropout: str | None = None

    def dropout_seed(self, layer: int, micro_batch: int) -> int | None:
        """Return the seed of one pass of a micro-batch through a layer, the same in the forward and
        when it is computed again.
        """
        if self.dropout is None:
            return None
        return stream_seed(0, f"{self.dropout}/{layer}/{micro_batch}")


@dataclass(slots=True)
class StepResults:
    """What the step that runs now has found so far.

    Attributes:
        losses: scaled loss of each micro-batch.
        norms: gradient norms by layer, each in the order of the layer's tensors.
    """

    losses: list[float] = field(default_factory=list)
    norms: dict[int, list[Tensor]] = field(default_factory=dict)


@dataclass(slots=True)
class TrainLog:
    """What the steps of this process did.

    Attributes:
        losses: mean loss per token of each step.
        step_s: wall time of each step.
        exposed_io_s: of all steps together.
        evaluation_loss: the last one; None when there was none.
        num_evaluations: how many there were.
        interrupted: whether the loop was asked to stop before its last step.
    """

    losses: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    exposed_io_s: float = 0.0
    evaluation_loss: float | None = None
    num_evaluations: int = 0
    interrupted: bool = False
