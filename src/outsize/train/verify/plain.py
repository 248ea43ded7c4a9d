"""Plain PyTorch: the same module whole in memory, autograd, and an optimizer of `torch.optim`.

This is the side that streaming must equal, so it shares as little as it can with it: the data, the
loss of hidden states (`ops/loss.py`, which has a test of its own against Transformers), and the
numbers of the learning rate. Which parameters have weight decay is asked of Transformers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.trainer_pt_utils import get_parameter_names

from outsize.models.layered import Batch
from outsize.models.registry import Source, plain_model, read_config
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.ops.loss import linear_cross_entropy
from outsize.plan import layout
from outsize.train.learning_rate import learning_rate
from outsize.train.options import TrainOptions
from outsize.train.verify.plain_optimizers import MOMENTS, plain_optimizer
from outsize.train.workload import num_moments

# As in `Trainer.get_decay_parameter_names` of Transformers, which needs a whole Trainer.
_NO_DECAY = ["bias", "layernorm", "rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSpan:
    """Master and moments of one parameter, or of a span of a very large one.

    Attributes:
        name: the parameter's name in the state dict.
        start: first element of it.
        values: 1-D fp32 `master` and as many of `exp_avg` and `exp_avg_sq` as the optimizer has.
    """

    name: str
    start: int
    values: dict[str, Tensor]


class PlainTrainer:
    """A model whole in memory and the steps of its training.

    Args:
        source: the model's configuration.
        options: of the run.
        num_steps: steps of the whole run, for the learning rate.
        weights: name and fp32 value of every parameter, which become the masters; a tied one comes
            once.

    Cost: per parameter 20 bytes (24 in fp32), and the activations of one micro-batch.
    """

    def __init__(
        self,
        source: Source,
        options: TrainOptions,
        num_steps: int,
        weights: Iterable[tuple[str, Tensor]],
    ) -> None:
        architecture, config = read_config(source)
        self._options = options
        self._num_steps = num_steps
        self._softcap = architecture.softcap(config)
        self._logit_scale = architecture.logit_scale(config)
        dtype = TORCH_DTYPES[options.dtype]
        self._module = plain_model(source, dtype, options.packed_attention)
        self._parameters = dict(self._module.named_parameters())
        given = {name: _masters(value) for name, value in weights}
        assert given.keys() == self._parameters.keys(), given.keys() ^ self._parameters.keys()
        self._masters = {name: given[name] for name in self._parameters}
        self._optimizer = self._make_optimizer()
        self._copy_masters()

    def step(self, step: int, batches: Iterable[Batch]) -> float:
        """Do train step `step`, from 0, and return its mean loss per token."""
        batches = list(batches)
        num_labels = sum(int((batch.labels != -100).sum()) for batch in batches)
        losses = []
        for batch in batches:
            loss = self._loss(batch, 1.0 / max(1, num_labels))
            loss.backward()
            losses.append(loss.item())
        self._take_gradients()
        if self._options.max_grad_norm > 0:
            masters = [m for found in self._masters.values() for m in found]
            nn.utils.clip_grad_norm_(masters, self._options.max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._options, step, self._num_steps)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._copy_masters()
        return sum(losses)

    def spans(self) -> Iterator[PlainSpan]:
        """Yield masters and moments, parameter by parameter."""
        for name, masters in self._masters.items():
            start = 0
            for master in masters:
                found = self._optimizer.state[master]
                values = {"master": master.detach().flatten()}
                values |= {
                    ours: found[theirs].flatten()
                    for theirs, ours in MOMENTS.items()
                    if found.get(theirs) is not None
                }
                assert len(values) == 1 + num_moments(self._options), values.keys()
                yield PlainSpan(name=name, start=start, values=values)
                start += master.numel()

    def _loss(self, batch: Batch, scale: float) -> Tensor:
        hidden = self._module.base_model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
        ).last_hidden_state
        projection = self._module.get_output_embeddings()
        return linear_cross_entropy(
            hidden.reshape(-1, hidden.shape[-1]),
            projection.weight,
            projection.bias,
            batch.labels.reshape(-1),
            scale=scale,
            softcap=self._softcap,
            logit_scale=self._logit_scale,
        )

    def _make_optimizer(self) -> torch.optim.Optimizer:
        options = self._options
        decaying = set(get_parameter_names(self._module, [nn.LayerNorm], _NO_DECAY))
        groups = [
            {
                "params": [
                    m for n, ms in self._masters.items() if (n in decaying) == d for m in ms
                ],
                "weight_decay": options.weight_decay if d else 0.0,
            }
            for d in (True, False)
        ]
        return plain_optimizer(options, groups)

    def _take_gradients(self) -> None:
        """Move every parameter's gradient to its masters, in fp32."""
        for name, parameter in self._parameters.items():
            assert parameter.grad is not None, name
            gradient, parameter.grad = parameter.grad.float(), None
            masters = self._masters[name]
            parts = (gradient,) if len(masters) == 1 else _spans(gradient)
            for master, part in zip(masters, parts, strict=True):
                master.grad = part

    @torch.no_grad()
    def _copy_masters(self) -> None:
        for name, parameter in self._parameters.items():
            masters = self._masters[name]
            parts = (parameter,) if len(masters) == 1 else _spans(parameter.detach())
            for part, master in zip(parts, masters, strict=True):
                part.copy_(master)


def _masters(value: Tensor) -> tuple[nn.Parameter, ...]:
    """Return the value as one master, or as several when it is so large that its gradient's norm is
    taken in spans.
    """
    assert value.dtype == torch.float32
    parts = (value,) if value.numel() <= layout.NORM_SPAN_ELEMENTS else _spans(value)
    return tuple(nn.Parameter(part) for part in parts)


def _spans(tensor: Tensor) -> tuple[Tensor, ...]:
    return tensor.view(-1).split(layout.NORM_SPAN_ELEMENTS)
