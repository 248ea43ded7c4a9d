"""From a prompt to token ids, and from token ids to text as they come.

The tokenizer is loaded into this process; its memory is part of what is measured before weights get
theirs.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from outsize.errors import ModelError, UsageError
from outsize.options import GenerateOptions
from outsize.spec.model import ModelSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\ufffd"
"""What decoding ends with while a character's bytes are not all there."""


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of a folder.

    Raises:
        ModelError: there is none that can be read.

    Cost: a few to a hundred MiB on host, by the size of the vocabulary.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # Transformers and tokenizers raise their own and bare exceptions
        raise ModelError(f"The tokenizer in {folder} cannot be read: {error}") from error


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase", options: GenerateOptions
) -> tuple[list[int], bool]:
    """Return the prompt's token ids and whether the chat template was used.

    Raises:
        UsageError: a chat is asked for and there is no template, or no token is left to start from.
        ModelError: the template fails.
    """
    has_template = tokenizer.chat_template is not None
    if options.chat and not has_template:
        raise UsageError(
            f"{options.model} has no chat template; leave --chat out, and the prompt is continued "
            "as it is."
        )
    chat = has_template if options.chat is None else options.chat
    ids = _from_template(tokenizer, options) if chat else tokenizer(options.prompt)["input_ids"]
    if not ids:
        raise UsageError("The prompt has no tokens for this model; give it some text.")
    return ids, chat


def check_prompt(
    options: GenerateOptions, spec: ModelSpec, prompt: Sequence[int], folder: Path
) -> None:
    """Check that prompt and answer are what the model was made for.

    Raises:
        ModelError: tokenizer and model do not belong together.
        UsageError: prompt and answer are too long, or the positions' embedding would change between
            them, which would make every key that is kept a wrong one.
    """
    if max(prompt) >= spec.vocab_size:
        raise ModelError(
            f"The tokenizer of {options.model} gives token {max(prompt)}, and the model knows "
            f"{spec.vocab_size} tokens: they do not belong together."
        )
    given = f"the prompt has {len(prompt)} and max_new_tokens is {options.max_new_tokens}"
    end = len(prompt) + options.max_new_tokens
    if spec.max_positions is not None and end > spec.max_positions:
        raise UsageError(
            f"{options.model} was made for {spec.max_positions} tokens; {given}. "
            + _shorter(spec.max_positions - len(prompt))
        )
    switch = _rope_switch(folder)
    if switch is not None and len(prompt) <= switch < end:
        raise UsageError(
            f"The position embedding of {options.model} changes after {switch} tokens, which an "
            f"answer cannot cross; {given}. " + _shorter(switch - len(prompt))
        )


def stop_ids(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Return the tokens that end an answer: the model's own, or else the tokenizer's."""
    path = folder / "generation_config.json"
    content = json.loads(path.read_bytes()) if path.is_file() else {}
    ids = content.get("eos_token_id", tokenizer.eos_token_id)
    if ids is None:
        return frozenset()
    return frozenset({ids} if isinstance(ids, int) else ids)


class TextStream:
    """Turns token ids into text piece by piece, never half a character.

    Cost: each new token decodes the whole answer again, some microseconds a token.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._num_shown = 0

    def advance(self, ids: Sequence[int]) -> str:
        """Return what is new in the text of all ids so far; empty until a character is whole."""
        text = self.text(ids)
        if text.endswith(_INCOMPLETE):
            return ""
        return self._rest(text)

    def finish(self, ids: Sequence[int]) -> str:
        """Return what has not been shown of the text, an incomplete character included."""
        return self._rest(self.text(ids))

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _rest(self, text: str) -> str:
        new = text[self._num_shown :]
        self._num_shown = max(self._num_shown, len(text))
        return new


def _from_template(tokenizer: "PreTrainedTokenizerBase", options: GenerateOptions) -> list[int]:
    from jinja2 import TemplateError

    messages = [{"role": "user", "content": options.prompt}]
    try:
        encoded = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )
    except TemplateError as error:
        raise ModelError(f"The chat template of {options.model} fails: {error}") from error
    return list(encoded["input_ids"])


def _shorter(room_tokens: int) -> str:
    return f"Try --max-new-tokens {room_tokens}." if room_tokens > 0 else "Shorten the prompt."


def _rope_switch(folder: Path) -> int | None:
    """Return after how many tokens a long rotary embedding takes its other factors."""
    config = json.loads((folder / "config.json").read_bytes())
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type") != "longrope":
        return None
    name = "original_max_position_embeddings"
    return rope.get(name) or config.get(name)
