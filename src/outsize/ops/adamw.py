"""AdamW on flat fp32 pieces, exactly as PyTorch does it.

Loshchilov and Hutter, 2019, "Decoupled weight decay regularization", algorithm 2. The fused kernel
works element by element, and its vector part covers whole cache lines.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from outsize.ops.pieces import StatePiece, UpdateNumbers


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW:
    """The optimizer and its constants; the learning rate changes with the step and is passed beside
    them. Two moments.
    """

    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float

    def update_(
        self, pieces: list[StatePiece], gradients: list[Tensor], numbers: UpdateNumbers
    ) -> None:
        """Apply one update with PyTorch's fused kernel; see `Optimizer`."""
        torch._fused_adamw_(  # the kernel behind torch.optim.AdamW(fused=True)
            [piece.master for piece in pieces],
            gradients,
            [piece.moments[0] for piece in pieces],
            [piece.moments[1] for piece in pieces],
            [],
            [torch.tensor(float(numbers.step)) for _ in pieces],
            amsgrad=False,
            lr=numbers.learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=numbers.weight_decay,
            eps=self.epsilon,
            maximize=False,
            grad_scale=None,
            found_inf=None,
        )
