"""Which blocks see every token before, which see a window, and which rotate by position.

Each architecture has a rule of its own for what its config leaves out; `Family` names the rule.
"""

from outsize.formats.shapes.entries import Entries
from outsize.spec.block import Attention

_TYPES: dict[object, Attention] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
}
"""What a config calls them; the second is an old name of the first."""


def attention_of_blocks(
    entries: Entries, num_layers: int
) -> tuple[tuple[Attention, int | None, bool], ...]:
    """Return attention, window in tokens and whether there is a rotary embedding, for each block.

    Raises:
        ModelError: an entry is not what it must be, or blocks have a window that is not stated.
    """
    window = entries.window() if entries.family.layers != "full" else None
    if entries.family.layers == "after" and not entries.switch("use_sliding_window", False):
        window = None
    listed = _rotary_layers(entries, num_layers)
    types = _types(entries, num_layers, window, listed)
    if window is None and "sliding" in types:
        raise entries.fail("sliding_window", None, "stated, since some layers have one")
    return tuple(
        (kind, window if kind == "sliding" else None, _has_rotary(entries, kind, window, rotates))
        for kind, rotates in zip(types, listed, strict=True)
    )


def _types(
    entries: Entries, num_layers: int, window: int | None, listed: tuple[bool, ...]
) -> tuple[Attention, ...]:
    rule = entries.family.layers
    if rule == "full":
        return ("full",) * num_layers
    stated = None if rule == "window" else entries.per_layer("layer_types", num_layers)
    if stated is not None:
        return tuple(_type(entries, name) for name in stated)
    match rule:
        case "window" | "typed window":
            windowed = [window is not None] * num_layers
        case "after":
            first = entries.count("max_window_layers", 28, minimum=0)
            windowed = [window is not None and i >= first for i in range(num_layers)]
        case "period":
            period = _period(entries)
            windowed = [(i + 1) % period != 0 for i in range(num_layers)]
        case "without rotary":
            is_used = window is not None and entries.switch("use_sliding_window", False)
            windowed = [is_used and not rotates for rotates in listed]
    return tuple("sliding" if is_windowed else "full" for is_windowed in windowed)


def _type(entries: Entries, name: object) -> Attention:
    if not isinstance(name, str) or name not in _TYPES:
        raise entries.fail("layer_types", name, "made of full_attention and sliding_attention")
    return _TYPES[name]


def _period(entries: Entries) -> int:
    family = entries.family
    return (
        entries.count(family.period_entry, family.period) if family.period_entry else family.period
    )


def _rotary_layers(entries: Entries, num_layers: int) -> tuple[bool, ...]:
    """Return what `no_rope_layers` says of each layer, which despite its name is 1 for rotary."""
    if entries.family.rotary != "listed":
        return (True,) * num_layers
    stated = entries.per_layer("no_rope_layers", num_layers)
    if stated is None:
        interval = entries.count("no_rope_layer_interval", 4)
        return tuple((i + 1) % interval != 0 for i in range(num_layers))
    if not all(isinstance(value, int) for value in stated):
        raise entries.fail("no_rope_layers", stated, "a list of 0 and 1")
    return tuple(bool(value) for value in stated)


def _has_rotary(entries: Entries, kind: Attention, window: int | None, rotates: bool) -> bool:
    match entries.family.rotary:
        case "all":
            return True
        case "none":
            return False
        case "listed":
            return rotates
        case "windowed":
            return kind == "sliding"
        case "windowed or all":
            return kind == "sliding" or window is None
