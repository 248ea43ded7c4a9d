"""The optimizers of plain PyTorch that streamed ones must equal; Lion, which PyTorch lacks, in the
words of its paper.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from outsize.train.options import TrainOptions

Groups = list[dict[str, Any]]

MOMENTS = {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq", "momentum_buffer": "exp_avg"}
"""What PyTorch's optimizers remember, and the component of our state that it is."""


def plain_optimizer(options: TrainOptions, groups: Groups) -> torch.optim.Optimizer:
    """Return the optimizer that the options ask for over groups of masters."""
    rate, betas = options.learning_rate, (options.adam_beta1, options.adam_beta2)
    match options.optim:
        case "lion_32bit":
            return PlainLion(groups, rate, betas)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=options.sgd_momentum, fused=True)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=options.adam_epsilon, fused=True)


class PlainLion(torch.optim.Optimizer):
    """Chen et al., 2023, "Symbolic discovery of optimization algorithms", program 1."""

    def __init__(self, groups: Groups, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every master that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            rate, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
            for weight in group["params"]:
                momentum: Tensor = self.state[weight].setdefault("exp_avg", weight * 0)
                update = torch.sign(beta1 * momentum + (1 - beta1) * weight.grad)
                weight.copy_((1 - rate * decay) * weight - rate * update)
                momentum.copy_(beta2 * momentum + (1 - beta2) * weight.grad)
