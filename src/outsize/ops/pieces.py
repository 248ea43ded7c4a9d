"""What an optimizer updates: pieces of master and moments; and what it does to them."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePiece:
    """One piece of the training state, 1-D fp32 tensors of equal length, changed in place.

    Attributes:
        master: the weights.
        moments: what the optimizer remembers: AdamW's first and second moment, the momentum of Lion
            or SGD, or nothing.
    """

    master: Tensor
    moments: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateNumbers:
    """What changes from one update to the next, and from tensor to tensor.

    Attributes:
        step: number of the update, from 1.
        learning_rate: of the update.
        weight_decay: of the pieces; 0 for norms and biases.
    """

    step: int
    learning_rate: float
    weight_decay: float


class Optimizer(Protocol):
    """The arithmetic of an update, element by element: a tensor that is updated piece by piece, in
    pieces of whole cache lines, gets the same bits as one that is updated at once.
    """

    @property
    def weight_decay(self) -> float:
        """Of tensors that decay."""
        ...

    def update_(
        self, pieces: list[StatePiece], gradients: list[Tensor], numbers: UpdateNumbers
    ) -> None:
        """Apply one update to all pieces in place.

        Args:
            pieces: masters and moments.
            gradients: fp32, one per piece, already clipped; never changed.
            numbers: of this update.
        """
        ...
