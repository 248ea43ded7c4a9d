"""Lion on flat fp32 pieces.

Chen et al., 2023, "Symbolic discovery of optimization algorithms", algorithm 2. Every operation
rounds by itself, so the bits do not depend on how a tensor is cut.
"""

from dataclasses import dataclass

from torch import Tensor

from outsize.ops.pieces import StatePiece, UpdateNumbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Lion:
    """The optimizer and its constants. One moment.

    Attributes:
        beta1: weight of the momentum in the direction of an update.
        beta2: decay of the momentum.
        weight_decay: decoupled.
    """

    beta1: float
    beta2: float
    weight_decay: float

    def update_(
        self, pieces: list[StatePiece], gradients: list[Tensor], numbers: UpdateNumbers
    ) -> None:
        """Apply one update; see `Optimizer`.

        Cost: three copies of the largest piece.
        """
        for piece, gradient in zip(pieces, gradients, strict=True):
            (momentum,) = piece.moments
            direction = momentum.mul(self.beta1).add_(gradient.mul(1 - self.beta1)).sign_()
            piece.master.mul_(1 - numbers.learning_rate * numbers.weight_decay)
            piece.master.sub_(direction.mul_(numbers.learning_rate))
            momentum.mul_(self.beta2).add_(gradient.mul(1 - self.beta2))
