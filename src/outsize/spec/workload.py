"""What a training step is asked to do."""

from dataclasses import dataclass

from outsize.spec.tensor import DType
from outsize.values import MomentBits, OptimizerName, PackedAttention


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainWorkload:
    """One train step.

    Attributes:
        rows_per_step: rows (sequences) of one optimizer step.
        micro_batch_rows: rows that pass through a layer at once; divides `rows_per_step`.
        seq_length: tokens of a row.
        dtype: compute dtype of weights, activations and gradients.
        trained_dtype: dtype of the weights that steps change and of their gradients; None is
            `dtype`.
        clip: whether gradients are clipped by their global norm.
        packed_attention: how attention treats rows of several examples.
        optimizer: what updates the masters.
        num_moments: numbers that it remembers for each weight besides the master.
        moment_bits: bits of each of them.
    """

    rows_per_step: int
    micro_batch_rows: int
    seq_length: int
    dtype: DType
    clip: bool
    packed_attention: PackedAttention = "masked"
    optimizer: OptimizerName = "adamw"
    num_moments: int = 2
    moment_bits: MomentBits = 32
    trained_dtype: DType | None = None

    @property
    def weights_dtype(self) -> DType:
        """Dtype of the weights that steps change."""
        return self.trained_dtype or self.dtype

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches of one step."""
        return self.rows_per_step // self.micro_batch_rows

    @property
    def micro_batch_tokens(self) -> int:
        """Tokens of one micro-batch, padding included."""
        return self.micro_batch_rows * self.seq_length

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step, padding included."""
        return self.rows_per_step * self.seq_length
