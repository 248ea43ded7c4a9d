"""Reads the numbers and switches of a config that nobody vouches for.

What a config leaves out is what the architecture's own config class puts in; what it states wrongly
is an error that names the entry.
"""

import reprlib
from collections.abc import Mapping
from typing import Any

from outsize.errors import ModelError
from outsize.formats.shapes.family import Family

MAX_COUNT = 1 << 12
"""Most layers, and most heads; the largest models have 126 and 128."""

MAX_WIDTH = 1 << 24
"""Largest vocabulary, hidden size, head and feed-forward part."""

MAX_POSITIONS = 1 << 40


class Entries:
    """The entries of one config.

    Args:
        config: the content of a `config.json`.
        family: its architecture.
        place: where the config is, for messages.
    """

    def __init__(self, config: Mapping[str, Any], family: Family, place: str) -> None:
        self.family = family
        self._config = config
        self._place = place

    def fail(self, entry: str, value: object, rule: str) -> ModelError:
        """Return the error for an entry that is not what it must be."""
        found = shown(value) if entry in self._config else f"not stated, so {shown(value)}"
        return ModelError(f"In {self._place}, {entry} is {found}; it must be {rule}.")

    def states(self, name: str) -> bool:
        """Tell whether the config states an entry, under its own name or another spelling."""
        return self._spelling(name) in self._config

    def size(self, name: str, maximum: int = MAX_WIDTH) -> int | None:
        """Return a size; None where neither the config nor its class says.

        Raises:
            ModelError: it is no whole number from 1 to `maximum`.
        """
        entry = self._spelling(name)
        value = self._config.get(entry, self.family.sizes.get(name))
        if value is None and (entry not in self._config or entry in self.family.nullable):
            return None
        return self._checked(entry, value, 1, maximum)

    def stated_size(self, name: str, maximum: int = MAX_WIDTH) -> int:
        """Return a size that has to be known.

        Raises:
            ModelError: it is not stated, or is no whole number from 1 to `maximum`.
        """
        found = self.size(name, maximum)
        if found is None:
            raise ModelError(
                f"{self._place[:1].upper()}{self._place[1:]} does not state "
                f"{self._spelling(name)}, which {self.family.name} needs."
            )
        return found

    def count(self, name: str, default: int, minimum: int = 1) -> int:
        """Return a small number that is no size.

        Raises:
            ModelError: it is no whole number from `minimum` on.
        """
        return self._checked(name, self._config.get(name, default), minimum, MAX_POSITIONS)

    def window(self) -> int | None:
        """Return `sliding_window`; None when there is none.

        Raises:
            ModelError: it is no positive whole number.
        """
        value = self._config.get("sliding_window", self.family.sizes["sliding_window"])
        return None if value is None else self._checked("sliding_window", value, 1, MAX_POSITIONS)

    def switch(self, name: str, default: bool) -> bool:
        """Return whether a switch is on.

        Raises:
            ModelError: it is neither true nor false.
        """
        value = self._config.get(name, default)
        if not isinstance(value, bool):
            raise self.fail(name, value, "true or false")
        return value

    def text(self, name: str, default: str) -> str:
        """Return a word.

        Raises:
            ModelError: it is no text.
        """
        value = self._config.get(name, default)
        if not isinstance(value, str) or not value:
            raise self.fail(name, value, "text")
        return value

    def dtype(self) -> str | None:
        """Return what the weights were saved in, if the config says so."""
        value = self._config.get("dtype") or self._config.get("torch_dtype")
        return value.removeprefix("torch.") if isinstance(value, str) else None

    def per_layer(self, name: str, num_layers: int) -> list[object] | None:
        """Return a list with an entry for each layer; None when it is not stated.

        Raises:
            ModelError: it is no list, or has another length.
        """
        value = self._config.get(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) != num_layers:
            raise self.fail(name, value, f"a list of {num_layers}, one for each layer")
        return list(value)

    def _spelling(self, name: str) -> str:
        if name == "intermediate_size":
            return self.family.inner_entry
        alias = self.family.aliases.get(name, name)
        return name if name in self._config else alias

    def _checked(self, entry: str, value: object, minimum: int, maximum: int) -> int:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if is_number and minimum <= value <= maximum:
            return value
        raise self.fail(entry, value, f"a whole number from {minimum} to {maximum}")


def shown(value: object) -> str:
    """Return a short text for a value, whatever it is."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    return reprlib.repr(value)
