"""A model as the planner sees it: a list of layers, each a list of named tensors."""

from dataclasses import dataclass
from typing import Literal

from outsize.spec.tensor import TensorSpec

LayerKind = Literal["embedding", "block", "head"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One streamed unit of the model.

    Attributes:
        name: readable name, for example `model.layers.3`.
        kind: `embedding` turns token ids into hidden states, `block` maps hidden states to hidden
            states, `head` maps hidden states to the loss. The first layer of a token model is its
            embedding, the last one its head.
        signature: layers with equal signatures run the same code on the same shapes, so one of them
            is profiled for all.
        tensors: the parameters that this layer owns, in state-dict order.
    """

    name: str
    kind: LayerKind
    signature: str
    tensors: tuple[TensorSpec, ...]

    @property
    def num_elements(self) -> int:
        """Number of parameters that the layer owns."""
        return sum(t.num_elements for t in self.tensors)

    @property
    def trainable(self) -> tuple[TensorSpec, ...]:
        """The tensors that steps change."""
        return tuple(t for t in self.tensors if t.trainable)

    @property
    def frozen(self) -> tuple[TensorSpec, ...]:
        """The tensors that are only read."""
        return tuple(t for t in self.tensors if not t.trainable)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The whole model.

    Attributes:
        architecture: class name, for example `LlamaForCausalLM`.
        layers: embedding first, head last.
        hidden_size: width of the hidden state that passes between layers.
        vocab_size: rows of the embedding and of the output projection.
        tied: name of the embedding's tensor that the head uses as its output projection too; None
            when the head has its own.
        projection: name of the `[vocab_size, hidden_size]` matrix that the head projects with, the
            tied one or its own; None when the head's loss is a black box.
        attention_heads: heads of the blocks' fused attention, whose result can be kept for the
            backward; 0 when there is none.
        attention_head_size: elements of one head of it.
        max_positions: longest sequence the model was made for; None when there is no such limit.
    """

    architecture: str
    layers: tuple[LayerSpec, ...]
    hidden_size: int
    vocab_size: int
    tied: str | None
    projection: str | None
    max_positions: int | None
    attention_heads: int
    attention_head_size: int

    def tensor(self, name: str) -> TensorSpec:
        """Return the tensor of that name."""
        return next(t for layer in self.layers for t in layer.tensors if t.name == name)

    @property
    def num_elements(self) -> int:
        """Number of parameters; a tied matrix counts once."""
        return sum(layer.num_elements for layer in self.layers)

    @property
    def num_trainable(self) -> int:
        """Number of parameters that steps change."""
        return sum(t.num_elements for layer in self.layers for t in layer.trainable)

    @property
    def has_adapters(self) -> bool:
        """Whether the method has added any tensor."""
        return any(tensor.added for layer in self.layers for tensor in layer.tensors)

    @property
    def trains_table(self) -> bool:
        """Whether steps change the embedding."""
        return bool(self.layers[0].trainable)

    @property
    def trains_projection(self) -> bool:
        """Whether steps change the matrix that the head projects with, and the model names it."""
        return self.projection is not None and self.tensor(self.projection).trainable

    @property
    def lowest_trained(self) -> int:
        """Index of the first layer that steps change; gradients flow no deeper."""
        return next(i for i, layer in enumerate(self.layers) if layer.trainable)
