"""AdamW on flat fp32 pieces, and the arithmetic of clipping, exactly as PyTorch does them.

Loshchilov and Hutter, 2019, "Decoupled weight decay regularization", algorithm 2. The fused kernel
works element by element, and its vector part covers whole cache lines; so a tensor that is updated
piece by piece, in pieces of whole cache lines, gets the same bits as one that is updated at once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW:
    """Constants of the optimizer; the learning rate changes with the step and is passed beside
    them.
    """

    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """One piece of master and moments, 1-D fp32 tensors of equal length, changed in place."""

    master: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


def adamw_(
    pieces: list[Moments],
    gradients: list[Tensor],
    *,
    step: int,
    learning_rate: float,
    optimizer: AdamW,
    weight_decay: float,
) -> None:
    """Apply step number `step` (from 1) to all pieces in place with PyTorch's fused kernel.

    Args:
        pieces: masters and moments.
        gradients: fp32, one per piece, already clipped.
        step: number of this update, from 1, for the bias correction.
        learning_rate: of this update.
        optimizer: the constants; its own weight decay is not used.
        weight_decay: of these pieces; 0 for norms and biases.
    """
    steps = [torch.tensor(float(step)) for _ in pieces]
    torch._fused_adamw_(  # the kernel behind torch.optim.AdamW(fused=True)
        [p.master for p in pieces],
        gradients,
        [p.exp_avg for p in pieces],
        [p.exp_avg_sq for p in pieces],
        [],
        steps,
        amsgrad=False,
        lr=learning_rate,
        beta1=optimizer.beta1,
        beta2=optimizer.beta2,
        weight_decay=weight_decay,
        eps=optimizer.epsilon,
        maximize=False,
        grad_scale=None,
        found_inf=None,
    )


def adamw_reference_(
    pieces: list[Moments],
    gradients: list[Tensor],
    *,
    step: int,
    learning_rate: float,
    optimizer: AdamW,
    weight_decay: float,
) -> None:
    """Do what `adamw_` does, in the words of the paper."""
    for piece, gradient in zip(pieces, gradients, strict=True):
        piece.master.mul_(1 - learning_rate * weight_decay)
        piece.exp_avg.lerp_(gradient, 1 - optimizer.beta1)
        piece.exp_avg_sq.mul_(optimizer.beta2).addcmul_(
            gradient, gradient, value=1 - optimizer.beta2
        )
        correction1 = 1 - optimizer.beta1**step
        correction2 = 1 - optimizer.beta2**step
        denominator = (piece.exp_avg_sq / correction2).sqrt_().add_(optimizer.epsilon)
        piece.master.addcdiv_(piece.exp_avg, denominator, value=-learning_rate / correction1)


def tensor_norms(gradient: Tensor, copy: Tensor) -> list[Tensor]:
    """Return the fp32 norm of a tensor, or of each of its spans when it is longer than `copy`.

    Args:
        gradient: of any dtype and shape.
        copy: 1-D fp32 buffer that is overwritten.
    """
    flat = gradient.flatten()
    norms = []
    for span in flat.split(copy.numel()):
        buffer = copy[: span.numel()].copy_(span)
        norms.append(torch.linalg.vector_norm(buffer))
    return norms


def clip_factor(norms: list[Tensor], max_norm: float) -> tuple[Tensor, Tensor]:
    """Return the global norm and the factor that clips to `max_norm`, as
    `torch.nn.utils.clip_grad_norm_` makes them.
    """
    total = torch.linalg.vector_norm(torch.stack(norms))
    return total, torch.clamp(max_norm / (total + 1e-6), max=1.0)
