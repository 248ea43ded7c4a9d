"""From options to the optimizer that updates the masters."""

from outsize.ops.adamw import AdamW
from outsize.ops.lion import Lion
from outsize.ops.pieces import Optimizer
from outsize.ops.sgd import SGD
from outsize.train.options import TrainOptions
from outsize.train.workload import optimizer_of


def make_optimizer(options: TrainOptions) -> Optimizer:
    """Return the optimizer that the options ask for."""
    decay = options.weight_decay
    match optimizer_of(options):
        case "lion":
            return Lion(beta1=options.adam_beta1, beta2=options.adam_beta2, weight_decay=decay)
        case "sgd":
            return SGD(momentum=options.sgd_momentum, weight_decay=decay)
        case "adamw":
            return AdamW(
                beta1=options.adam_beta1,
                beta2=options.adam_beta2,
                epsilon=options.adam_epsilon,
                weight_decay=decay,
            )
