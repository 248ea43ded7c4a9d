"""What one architecture's config entries mean for its shapes.

Read `families.py` next, where there is one of these for every architecture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from outsize.formats.shapes.parts import Parts

KEY_HEADS = "num_key_value_heads"
HEAD_SIZE = "head_dim"

LayerRule = Literal["full", "window", "typed window", "after", "period", "without rotary"]
"""Which blocks see a window: none; all, if there is one; all, by `layer_types`; those from
`max_window_layers` on; all but every n-th; those without rotary embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One model class of Transformers.

    Attributes:
        name: the class.
        model_type: what `config.json` calls the family.
        sizes: what a size is that the config does not state; None where it follows from others.
        block: the tensors of a block.
        base: name of the base model in the whole one.
        table: name of the token embedding in the base model.
        blocks: name of the list of blocks in the base model.
        norm: name of the final norm in the base model.
        final_norm: what the final norm has.
        positions_table: name of a table of positions in the base model; None when there is none.
        has_projection_bias: whether the output projection has a bias.
        is_tied: whether the output projection is the token embedding, unless the config says.
        is_fused: whether its attention is PyTorch's fused one.
        on: switches that are on unless the config says; all others are off.
        nullable: sizes that a config may state as null.
        is_divided: whether the heads must divide the hidden size even when `head_dim` is stated.
        head_size: `derived` from hidden size and heads unless `head_dim` is stated, `stated`
            always, or never (`fixed`); a number is what it is unless it is stated.
        activation: the non-linear function, unless the config says.
        activation_entry: the entry that says.
        layers: which blocks see a window.
        period: n of "all but every n-th"; 0 for the other rules.
        period_entry: the entry that states n; None when it is fixed.
        rotary: which blocks rotate queries and keys: all, none, those that `no_rope_layers` says,
            those with a window, or those with a window but all where none has one.
        aliases: other spellings of entries; an entry under its own name wins.
        inner_entry: the entry for the width of the feed-forward part.
    """

    name: str
    model_type: str
    sizes: Mapping[str, int | None]
    block: Parts
    base: str = "model"
    table: str = "embed_tokens"
    blocks: str = "layers"
    norm: str = "norm"
    final_norm: Literal["weight", "weight and bias", "nothing"] = "weight"
    positions_table: str | None = None
    has_projection_bias: bool = False
    is_tied: bool = False
    is_fused: bool = True
    on: frozenset[str] = frozenset()
    nullable: frozenset[str] = frozenset({KEY_HEADS})
    is_divided: bool = False
    head_size: int | Literal["derived", "stated", "fixed"] = "derived"
    activation: str = "silu"
    activation_entry: str = "hidden_act"
    layers: LayerRule = "full"
    period: int = 0
    period_entry: str | None = None
    rotary: Literal["all", "none", "listed", "windowed", "windowed or all"] = "all"
    aliases: Mapping[str, str] = field(default_factory=dict)
    inner_entry: str = "intermediate_size"

    @property
    def is_gated(self) -> bool:
        """Whether the feed-forward part is gated."""
        return any("gate" in part.name for part in self.block)

    @property
    def has_key_heads(self) -> bool:
        """Whether keys and values may have fewer heads than queries."""
        words = {word for part in self.block for word in part.shape}
        return not words.isdisjoint({"key", "query_and_keys"})

    @property
    def switches(self) -> tuple[str, ...]:
        """Entries that switch tensors or other work on and off, sorted."""
        named = {name for part in self.block for name in (part.when, part.unless) if name}
        return tuple(sorted(named | self.on))


def default_sizes(
    vocab: int,
    hidden: int,
    inner: int | None,
    layers: int,
    heads: int,
    positions: int,
    *,
    key_heads: int | None = None,
    window: int | None = None,
) -> Mapping[str, int | None]:
    """Return sizes by the names of their entries."""
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": positions,
        KEY_HEADS: key_heads,
        "sliding_window": window,
    }
