"""The arithmetic of clipping by the global norm, exactly as PyTorch does it."""

import torch
from torch import Tensor


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
