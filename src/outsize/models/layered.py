"""What the rest of the program knows of a model: layers, called one at a time.

A layered model owns no weights. Whoever runs it (`runtime`) fetches a layer's tensors and passes
them in by name, so a weight can lie anywhere until the moment it is used. Everything else that a
layer needs (attention masks, rotary embeddings) depends on the batch alone and comes from
`context`. Implementations: `decoder.py` for Hugging Face decoders, `sequential.py` for lists of
modules.

Shape suffixes: B rows of a micro-batch, T tokens of a row, H hidden size, V vocabulary, U token
ids.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from outsize.spec.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro-batch.

    Attributes:
        input_ids: `[B, T]` int64 token ids; floats of any shape `[B, T, ...]` for a model that
            takes no tokens.
        position_ids: `[B, T]` int64; a row restarts at 0 where the next packed sequence begins.
        labels: `[B, T]` int64, already shifted: the label of a token is the token that follows;
            -100 means no loss.
    """

    input_ids: Tensor
    position_ids: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCall:
    """What a block is called with besides the hidden state."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The calls of all blocks for one batch; blocks of a kind share their masks and embeddings.

    Attributes:
        calls: one for each block, the first block first.
    """

    calls: tuple[LayerCall, ...]

    def num_bytes(self) -> int:
        """Return the bytes of all tensors in here, shared ones once."""
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for call in self.calls
            for tensor in _tensors((call.args, call.kwargs))
        }
        return sum(storages.values())


class LayeredModel(Protocol):
    """A model as a list of layers: embedding (index 0), blocks, head (the last index).

    `parameters` maps the full state-dict names of the layer's tensors (`LayerSpec.tensors`) to
    tensors of `dtype`; with a tied output projection, the head gets the embedding's table under the
    table's name. Gradients flow to every tensor that requires them. The model's own dropout is off
    in training too; that of adapters follows a seed, so that a step can be repeated bit for bit.
    Adapters come in fp32.

    Guarantees: not safe for calls from several threads at once.
    """

    spec: ModelSpec
    dtype: torch.dtype
    token_table: str | None
    """Name of the embedding table's tensor; None for a model that takes no tokens."""

    def embed(self, parameters: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the hidden state `[B, T, H]` that enters the first block."""
        ...

    def embed_rows(self, parameters: Mapping[str, Tensor], batch: Batch, rows: Tensor) -> Tensor:
        """Do what `embed` does with a part of the table.

        Args:
            parameters: as in `embed`, but the table has only the rows `rows` of the whole table.
            batch: the batch; each of its token ids is in `rows`.
            rows: `[U]` int64, sorted, without repeats.

        The gradient of the partial table is bitwise equal to those rows of the gradient of the
        whole one.
        """
        ...

    def context(self, batch: Batch) -> Context:
        """Return what the blocks need besides weights and hidden state; uses no weights."""
        ...

    def block(
        self,
        index: int,
        parameters: Mapping[str, Tensor],
        hidden: Tensor,
        context: Context,
        dropout_seed: int | None = None,
    ) -> Tensor:
        """Return the hidden state after layer `index` of `spec.layers` (1 to n - 2); without a
        seed, the dropout of adapters is off.
        """
        ...

    def loss(
        self,
        parameters: Mapping[str, Tensor],
        hidden: Tensor,
        labels: Tensor,
        scale: float,
        projection_gradient: Tensor | None = None,
    ) -> Tensor:
        """Return `scale` times the sum of the labels' losses as a scalar.

        With `projection_gradient`, which only a model whose spec names a projection takes, the
        gradient of that matrix is written there, and autograd gives none for it.
        """
        ...

    def logits(self, parameters: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        """Return the head's output `[B, T, V]` for a hidden state `[B, T, H]`."""
        ...

    def initialise(
        self,
        index: int,
        seed: int,
        values: Mapping[str, Tensor],
        base: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write what training from scratch starts with into `values` of layer `index`, by name.

        Args:
            index: of the layer.
            seed: decides them, together with the names.
            values: what to write; adapters and what is trained in fp32.
            base: for adapters, the tensors that they are added to, where `values` has not.
        """
        ...


def local_names(parameters: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors below the module `prefix`, named as that module names them."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in parameters.items() if n.startswith(start)}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
