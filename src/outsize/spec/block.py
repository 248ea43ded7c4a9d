"""What a block does beyond its tensors' shapes: its attention and its feed-forward part.

A `ModelSpec` says what has to be stored and moved; this says what has to be computed. Read
`signature.py` next, which tells layers of different work apart by both.
"""

from dataclasses import dataclass
from typing import Literal

Attention = Literal["full", "sliding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockShape:
    """The work of one block.

    Attributes:
        num_heads: query heads.
        num_key_value_heads: heads of keys and values; `num_heads` is a multiple of it.
        head_size: elements of one head.
        attention: whether a token sees every token before it, or a window of them.
        window_tokens: how many tokens sliding attention sees, the token itself among them; None for
            full attention.
        has_rotary: whether queries and keys are rotated by their position.
        feed_forward_size: elements between the two halves of the feed-forward part.
        is_gated: whether a second matrix of that size gates them.
        activation: the non-linear function, as Transformers calls it, for example `silu`.
        dtype: what the config says that its weights were saved in, for example `bfloat16`; None
            when it does not say.
    """

    num_heads: int
    num_key_value_heads: int
    head_size: int
    attention: Attention
    window_tokens: int | None
    has_rotary: bool
    feed_forward_size: int
    is_gated: bool
    activation: str
    dtype: str | None
