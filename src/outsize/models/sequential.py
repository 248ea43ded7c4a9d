"""`nn.Sequential` and lists of modules as layered models.

The contract is short. The first module turns a batch into a hidden state: a `nn.Embedding` takes
token ids, anything else takes the batch's floats. Each block turns a hidden state into one of the
same shape. The head turns it into an output, and `loss_fn(output, labels)` into a SUM of losses,
because the trainer divides by the number of labels of a whole step. No two layers share a
parameter, but a linear head may have the embedding's table as its weight. Modules run in evaluation
mode, so dropout is off and nothing may keep state between calls.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from outsize.errors import ModelError
from outsize.models.contract import check_contract
from outsize.models.describe import describe_layer
from outsize.models.layered import Batch, Context, LayerCall, local_names
from outsize.models.table import partial_ids, partial_table
from outsize.ops.loss import IGNORED_LABEL, linear_cross_entropy
from outsize.spec.model import LayerKind, LayerSpec, ModelSpec

LossFunction = Callable[[Tensor, Tensor], Tensor]


def from_layers(
    embedding: nn.Module,
    blocks: Sequence[nn.Module],
    head: nn.Module,
    loss_fn: LossFunction | None = None,
    *,
    hidden_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> "Sequential":
    """Return a layered model of modules; their present weights are its initial values.

    Args:
        embedding: `nn.Embedding` for token ids, or a module that takes floats.
        blocks: at least none; each maps a hidden state to one of the same shape.
        head: maps the hidden state to the output.
        loss_fn: maps output and labels to a scalar, the sum of losses; None for the cross-entropy
            of next tokens, which is computed in chunks when the head is a `nn.Linear`.
        hidden_size: last dimension of the hidden state; needed unless `embedding` is a
            `nn.Embedding`.
        dtype: of weights and floating-point inputs while training.

    Raises:
        ModelError: the modules do not keep the contract of this file.
    """
    named = {"embedding": embedding}
    named |= {f"blocks.{index}": block for index, block in enumerate(blocks)}
    return Sequential({**named, "head": head}, loss_fn, hidden_size=hidden_size, dtype=dtype)


def from_sequential(
    model: nn.Sequential,
    loss_fn: LossFunction | None = None,
    *,
    hidden_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> "Sequential":
    """Return a layered model of a `nn.Sequential`: its first module, its blocks, its last module.

    Arguments and errors are those of `from_layers`; tensors keep the names that they have in
    `model`.
    """
    if len(model) < 2:
        raise ModelError(
            "A sequential model needs at least two modules, an embedding and a head; this one has "
            f"{len(model)}."
        )
    return Sequential(dict(model.named_children()), loss_fn, hidden_size=hidden_size, dtype=dtype)


def _projection(name: str, head: nn.Module, loss_fn: LossFunction | None) -> str | None:
    """Return the projection's name when the loss of a plain `nn.Linear` is made in chunks."""
    return name if loss_fn is None and type(head) is nn.Linear else None


class Sequential:
    """A `LayeredModel` made of modules that are called one after the other.

    Cost: holds the modules that it was made of, with their weights, for `initialise`.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        loss_fn: LossFunction | None,
        *,
        hidden_size: int | None,
        dtype: torch.dtype,
    ) -> None:
        self.dtype = dtype
        self._loss_fn = loss_fn
        self._originals = dict(modules)
        self._names = tuple(modules)
        embedding, head = modules[self._names[0]], modules[self._names[-1]]
        takes_tokens = isinstance(embedding, nn.Embedding)
        table = f"{self._names[0]}.weight"
        self.token_table = table if takes_tokens else None
        is_tied = takes_tokens and isinstance(head, nn.Linear) and head.weight is embedding.weight
        check_contract(modules, is_tied=is_tied)
        if hidden_size is None and not takes_tokens:
            raise ModelError(
                "hidden_size is needed, because the first module is no nn.Embedding that tells it."
            )
        self._modules = _without_weights(modules)
        self.spec = ModelSpec(
            architecture="Sequential",
            layers=tuple(self._describe(index, is_tied) for index in range(len(modules))),
            hidden_size=hidden_size or embedding.embedding_dim,
            vocab_size=embedding.num_embeddings if takes_tokens else 0,
            tied=table if is_tied else None,
            projection=_projection(
                table if is_tied else f"{self._names[-1]}.weight", head, loss_fn
            ),
            max_positions=None,
            attention_heads=0,
            attention_head_size=0,
        )

    def embed(self, parameters: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Call the first module."""
        inputs = batch.input_ids
        inputs = inputs.to(self.dtype) if inputs.is_floating_point() else inputs
        hidden = self._call(0, self._modules[0], parameters, inputs)
        if hidden.shape[-1] != self.spec.hidden_size:
            raise ModelError(
                f"{self._names[0]} returned the shape {tuple(hidden.shape)}; its last dimension "
                f"must be hidden_size={self.spec.hidden_size}."
            )
        return hidden

    def embed_rows(self, parameters: Mapping[str, Tensor], batch: Batch, rows: Tensor) -> Tensor:
        """Do what `embed` does with the rows `rows` of the table."""
        table = partial_table(self._modules[0], rows)
        return self._call(0, table, parameters, partial_ids(batch.input_ids, rows))

    def context(self, batch: Batch) -> Context:
        """Return a context without content: a module gets its input and nothing else."""
        return Context(calls=(LayerCall(args=(), kwargs={}),) * (len(self._modules) - 2))

    def block(
        self,
        index: int,
        parameters: Mapping[str, Tensor],
        hidden: Tensor,
        context: Context,
        dropout_seed: int | None = None,
    ) -> Tensor:
        """Call one block.

        Raises:
            ModelError: it returned something else than a hidden state of the same shape.
        """
        result = self._call(index, self._modules[index], parameters, hidden)
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        if shape != tuple(hidden.shape):
            raise ModelError(
                f"{self._names[index]} returned {shape} for a hidden state of shape "
                f"{tuple(hidden.shape)}; a block must keep the shape."
            )
        return result

    def loss(
        self,
        parameters: Mapping[str, Tensor],
        hidden: Tensor,
        labels: Tensor,
        scale: float,
        projection_gradient: Tensor | None = None,
    ) -> Tensor:
        """Call the head and the loss function."""
        if self.spec.projection is None:
            assert projection_gradient is None
            loss_fn = self._loss_fn or token_loss
            return loss_fn(self.logits(parameters, hidden), labels) * scale
        local = self._head_parameters(parameters)
        return linear_cross_entropy(
            hidden.reshape(-1, hidden.shape[-1]),
            local["weight"],
            local.get("bias"),
            labels.reshape(-1),
            scale=scale,
            weight_gradient=projection_gradient,
        )

    def logits(self, parameters: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        """Call the head."""
        return functional_call(self._modules[-1], self._head_parameters(parameters), (hidden,))

    def initialise(
        self,
        index: int,
        seed: int,
        values: Mapping[str, Tensor],
        base: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write the weights that the layer's module came with; `seed` has no effect."""
        module = self._originals[self._names[index]]
        given = dict(module.named_parameters(prefix=self._names[index]))
        for name, value in values.items():
            value.copy_(given[name].detach())

    def _call(
        self, index: int, module: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor
    ) -> Tensor:
        return functional_call(module, local_names(parameters, self._names[index]), (inputs,))

    def _head_parameters(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        local = local_names(parameters, self._names[-1])
        if self.spec.tied is not None:
            local["weight"] = parameters[self.spec.tied]
        return local

    def _describe(self, index: int, is_tied: bool) -> LayerSpec:
        name, last = self._names[index], len(self._names) - 1
        kinds: dict[int, LayerKind] = {0: "embedding", last: "head"}
        tied = frozenset({f"{name}.weight"} if is_tied and index == last else ())
        modules = {name: self._modules[index]}
        return describe_layer(name, kinds.get(index, "block"), modules, tied)


def token_loss(output: Tensor, labels: Tensor) -> Tensor:
    """Return the summed cross-entropy of `[..., V]` scores; labels of -100 have none."""
    scores = output.reshape(-1, output.shape[-1]).float()
    return functional.cross_entropy(
        scores, labels.reshape(-1), ignore_index=IGNORED_LABEL, reduction="sum"
    )


def _without_weights(modules: Mapping[str, nn.Module]) -> list[nn.Module]:
    """Copy the modules with every parameter on the meta device; a shared one stays shared."""
    memo: dict[int, object] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"))
        for module in modules.values()
        for parameter in module.parameters()
    }
    return [copy.deepcopy(module, memo).eval() for module in modules.values()]
