"""Stochastic gradient descent with momentum on flat fp32 pieces, exactly as PyTorch does it.

Sutskever et al., 2013, "On the importance of initialization and momentum in deep learning", in the
form of `torch.optim.SGD`: weight decay is added to the gradient, and the learning rate is outside
of the momentum.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from outsize.ops.pieces import StatePiece, UpdateNumbers


@dataclass(frozen=True, slots=True, kw_only=True)
class SGD:
    """The optimizer and its constants. One moment, none where `momentum` is 0."""

    momentum: float
    weight_decay: float

    def update_(
        self, pieces: list[StatePiece], gradients: list[Tensor], numbers: UpdateNumbers
    ) -> None:
        """Apply one update with PyTorch's fused kernel; see `Optimizer`."""
        torch._fused_sgd_(  # the kernel behind torch.optim.SGD(fused=True)
            [piece.master for piece in pieces],
            gradients,
            [moment for piece in pieces for moment in piece.moments],
            weight_decay=numbers.weight_decay,
            momentum=self.momentum,
            lr=numbers.learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,  # a momentum of zeros gives what PyTorch's first step does
            grad_scale=None,
            found_inf=None,
        )
