"""The tokenizer in a GGUF file, as Transformers rebuilds it, with the rules it does not know.

A GGUF file names the rule that cuts text before merges are applied. Transformers falls back to
GPT-2's for names that it has no rule for, which would cut numbers otherwise than the model was
trained with. Runs in a child process.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from outsize.errors import ModelError
from outsize.formats.gguf_types import GgufHeader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SINGLE_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r"})
"""Rules that are GPT-2's after every digit was set apart."""


def has_tokenizer(header: GgufHeader) -> bool:
    """Tell whether the file carries a vocabulary."""
    return header.lengths.get("tokenizer.ggml.tokens", 0) > 0


def tokenizer_from_gguf(
    path: Path, header: GgufHeader, max_positions: int | None
) -> "PreTrainedTokenizerFast":
    """Return the tokenizer of a GGUF file.

    Args:
        path: the file.
        header: its checked header.
        max_positions: longest sequence of the model; None leaves it open.

    Raises:
        ModelError: Transformers cannot rebuild it.
    """
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True
        )
    except Exception as error:  # Transformers and tokenizers raise their own and bare exceptions
        raise ModelError(
            f"The tokenizer in {path} cannot be read ({error}). Give another with --tokenizer."
        ) from error
    if header.metadata.get("tokenizer.ggml.pre") in _SINGLE_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    if max_positions is not None:
        tokenizer.model_max_length = max_positions
    return tokenizer
