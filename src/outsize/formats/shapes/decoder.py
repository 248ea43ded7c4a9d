"""The sizes of one decoder: the words of `parts.py` as numbers, and what each block computes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from outsize.errors import ModelError
from outsize.formats.shapes.attention import attention_of_blocks
from outsize.formats.shapes.entries import MAX_COUNT, MAX_POSITIONS, Entries
from outsize.formats.shapes.family import HEAD_SIZE, KEY_HEADS, Family
from outsize.formats.shapes.lookup import find_family, refuse_unsupported
from outsize.formats.shapes.parts import Part, Parts
from outsize.spec.block import BlockShape

MAX_TENSORS = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """What the config of a decoder says of its sizes.

    Attributes:
        family: its architecture.
        words: what every word of a shape means.
        switches: whether tensors that can be left out are there.
        blocks: what each block computes.
        is_tied: whether the output projection is the token embedding.
    """

    family: Family
    words: Mapping[str, int]
    switches: Mapping[str, bool]
    blocks: tuple[BlockShape, ...]
    is_tied: bool

    def tensors(self, parts: Parts) -> Iterator[tuple[str, tuple[int, ...], bool]]:
        """Yield name, shape, and whether it is a norm's, of every tensor that is there."""
        for part in parts:
            if not self._is_there(part):
                continue
            shape = tuple(self.words[word] for word in part.shape)
            if part.times is None:
                yield part.name, shape, part.is_norm
                continue
            for number in range(self.words[part.times]):
                yield part.name.format(i=number), shape, part.is_norm

    def _is_there(self, part: Part) -> bool:
        wanted = part.when is None or self.switches[part.when]
        return wanted and (part.unless is None or not self.switches[part.unless])


def read_shape(config: Mapping[str, Any], place: str) -> DecoderShape:
    """Return the sizes of the model of a config.

    Args:
        config: the content of a `config.json`.
        place: where it is, for messages.

    Raises:
        ModelError: the architecture or an option is not supported, or an entry is not what it must
            be.
    """
    family = find_family(config, place)
    refuse_unsupported(family.name, config)
    entries = Entries(config, family, place)
    words = _words(entries)
    shape = DecoderShape(
        family=family,
        words=words,
        switches={name: entries.switch(name, name in family.on) for name in family.switches},
        blocks=_blocks(entries, words),
        is_tied=entries.switch("tie_word_embeddings", family.is_tied),
    )
    num_tensors = len(shape.blocks) * sum(1 for _ in shape.tensors(family.block))
    if num_tensors > MAX_TENSORS:
        raise ModelError(
            f"In {place}, num_hidden_layers is {len(shape.blocks)}, which makes {num_tensors} "
            f"tensors; {MAX_TENSORS} are allowed."
        )
    return shape


def _words(entries: Entries) -> dict[str, int]:
    hidden = entries.stated_size("hidden_size")
    inner = entries.size("intermediate_size") or 4 * hidden
    heads = entries.stated_size("num_attention_heads", MAX_COUNT)
    head = _head_size(entries, hidden, heads)
    key_heads = _key_heads(entries, heads)
    query, key = heads * head, key_heads * head
    return {
        "vocab": entries.stated_size("vocab_size"),
        "positions": entries.stated_size("max_position_embeddings", MAX_POSITIONS),
        "hidden": hidden,
        "three_hidden": 3 * hidden,
        "hidden_of_head": hidden // heads,
        "inner": inner,
        "two_inner": 2 * inner,
        "heads": heads,
        "key_heads": key_heads,
        "head": head,
        "query": query,
        "key": key,
        "query_and_keys": query + 2 * key,
    }


def _head_size(entries: Entries, hidden: int, heads: int) -> int:
    rule = entries.family.head_size
    stated = entries.states(HEAD_SIZE) and rule != "fixed"
    found = entries.size(HEAD_SIZE) if stated else None
    if not stated and isinstance(rule, int):
        found = rule
    if found is None and rule == "stated":
        found = entries.stated_size(HEAD_SIZE)
    if hidden % heads and (found is None or entries.family.is_divided):
        raise entries.fail("hidden_size", hidden, f"a multiple of num_attention_heads, {heads}")
    return hidden // heads if found is None else found


def _key_heads(entries: Entries, heads: int) -> int:
    if not entries.family.has_key_heads:
        return heads
    may_be_left_out = KEY_HEADS in entries.family.nullable
    read = entries.size if may_be_left_out else entries.stated_size
    found = read(KEY_HEADS, MAX_COUNT) or heads
    if heads % found:
        raise entries.fail(KEY_HEADS, found, f"a divisor of num_attention_heads, {heads}")
    return found


def _blocks(entries: Entries, words: Mapping[str, int]) -> tuple[BlockShape, ...]:
    family = entries.family
    activation = entries.text(family.activation_entry, family.activation)
    dtype = entries.dtype()
    num_layers = entries.stated_size("num_hidden_layers", MAX_COUNT)
    attention = attention_of_blocks(entries, num_layers)
    shapes = {
        (kind, window_tokens, has_rotary): BlockShape(
            num_heads=words["heads"],
            num_key_value_heads=words["key_heads"],
            head_size=words["head"],
            attention=kind,
            window_tokens=window_tokens,
            has_rotary=has_rotary,
            feed_forward_size=words["inner"],
            is_gated=family.is_gated,
            activation=activation,
            dtype=dtype,
        )
        for kind, window_tokens, has_rotary in set(attention)
    }
    return tuple(shapes[of_block] for of_block in attention)
