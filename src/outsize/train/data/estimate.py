"""How many tokens and rows data will make, before anything is tokenised: an estimate, and how it
was made.

The bytes of files are exact. Of records, the first MiB of a few files tells which share of the
bytes is text; what remains a guess is how many bytes of text make a token. Data that would have to
be downloaded, or opened with a library, is not estimated. Reads no tokenizer.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from outsize.formats.hub import is_hub_id
from outsize.paths import is_there, user_path
from outsize.quantities import format_bytes
from outsize.train.data.readers import read_records
from outsize.train.data.reference import BUILTIN_NAME, reference_topics
from outsize.train.data.row_count import RowCounter
from outsize.train.data.shapes import (
    Chat,
    Completion,
    Example,
    Instruction,
    Text,
    columns_of_interest,
    read_example,
    recognise,
)
from outsize.train.data.source import SUFFIXES, Source, find_source

BYTES_PER_TOKEN = 4.0
"""Bytes of UTF-8 text for one token.

Measured with the tokenizer of SmolLM2, 49152 tokens: 4.5 in plain English prose, 4.1 in technical
prose with examples, 3.3 in Python code, 3.0 to 3.7 in Markdown with tables and links.
"""

REFERENCE_BYTES_PER_TOKEN = 4.127
"""The same for `builtin:python-reference`, its ends of text counted."""

MARKS_PER_MESSAGE = 5
"""Tokens that a chat template adds to a message: where it begins and ends, and who speaks."""

SAMPLE_BYTES = 1 << 20
MAX_SAMPLED_FILES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEstimate:
    """What is known of the size of training data before it is read.

    Attributes:
        tokens: tokens of all of it; None when they cannot be told.
        rows: rows that they fill; None when they cannot be told.
        source_bytes: bytes of its files, or of its text when it has none; None when unknown.
        explanation: one sentence that says how it was estimated, or why it was not.
    """

    tokens: int | None
    rows: int | None
    source_bytes: int | None
    explanation: str


def estimate_tokens(
    data: str,
    *,
    split: str = "train",
    text_field: str | None = None,
    max_seq_length: int = 1024,
    packing: bool = True,
) -> TokenEstimate:
    """Estimate how many tokens a `--data` argument holds, and how many rows they fill.

    Args:
        data: file, folder, glob, `builtin:python-reference` or Hub data set id.
        split: which split of a folder.
        text_field: field of the records that holds the text; None recognises the shape.
        max_seq_length: tokens of a row.
        packing: whether several short documents or examples share a row.

    Raises:
        DataError: as the run itself would: there is no such data, or its first records cannot be
            read.

    Cost: no network; at most `MAX_SAMPLED_FILES` times `SAMPLE_BYTES` read for each kind of file.
    """
    path = user_path(data)
    if is_hub_id(data) and path.suffix not in SUFFIXES and not is_there(path):
        why = f"{data} is a data set of the Hub, which is not downloaded for an estimate."
        return TokenEstimate(tokens=None, rows=None, source_bytes=None, explanation=why)
    source = find_source(data, split)
    make_counter = partial(RowCounter, max_seq_length, packing=packing)
    if source.kind == "builtin":
        return _of_reference(make_counter())
    source_bytes = sum(file.stat().st_size for file in source.files)
    kinds = defaultdict(list)
    for file in source.files:
        kinds[file.suffix.lower()].append(file)
    if source.kind == "saved" or ".parquet" in kinds:
        what = "a saved data set" if source.kind == "saved" else "parquet"
        why = f"{data} holds {what}, whose {format_bytes(source_bytes)} do not tell its text."
        return TokenEstimate(tokens=None, rows=None, source_bytes=source_bytes, explanation=why)
    counts = [_of_files(f, suffix, text_field, make_counter()) for suffix, f in kinds.items()]
    return TokenEstimate(
        tokens=round(sum(tokens for tokens, _ in counts)),
        rows=math.ceil(sum(rows for _, rows in counts)),
        source_bytes=source_bytes,
        explanation=_explanation(source, source_bytes, set(kinds)),
    )


def _of_reference(counter: RowCounter) -> TokenEstimate:
    sizes = [len(text.encode()) for _, text in reference_topics()]
    for size in sizes:
        counter.add_text(size / REFERENCE_BYTES_PER_TOKEN)
    num_bytes = sum(sizes)
    return TokenEstimate(
        tokens=round(num_bytes / REFERENCE_BYTES_PER_TOKEN),
        rows=math.ceil(counter.num_rows),
        source_bytes=num_bytes,
        explanation=f"{BUILTIN_NAME}: {format_bytes(num_bytes)} of text at "
        f"{REFERENCE_BYTES_PER_TOKEN:g} bytes a token, as SmolLM2's tokenizer cuts it.",
    )


def _explanation(source: Source, source_bytes: int, kinds: set[str]) -> str:
    size = format_bytes(source_bytes)
    if kinds == {".txt"}:
        return f"{size} of text at {BYTES_PER_TOKEN:g} bytes a token."
    count = len(source.files)
    return (
        f"{size} in {count} file{'s' if count > 1 else ''}; the share of it that is text is taken "
        f"from the first {format_bytes(SAMPLE_BYTES)} of up to {MAX_SAMPLED_FILES} files of a kind "
        f"and counted at {BYTES_PER_TOKEN:g} bytes a token."
    )


def _of_files(
    files: Sequence[Path], suffix: str, text_field: str | None, counter: RowCounter
) -> tuple[float, float]:
    """Return the tokens of files of one kind and the rows that they fill."""
    sizes = [file.stat().st_size for file in files]
    if suffix == ".txt" and text_field in (None, "text"):
        for size in sizes:
            counter.add_text(size / BYTES_PER_TOKEN + 1)
        return counter.num_tokens, counter.num_rows
    step = -(-len(files) // MAX_SAMPLED_FILES)
    sampled_bytes = sum(_sample(file, text_field, counter) for file in files[::step])
    factor = sum(sizes) / sampled_bytes if sampled_bytes else 0.0
    return factor * counter.num_tokens, factor * counter.num_rows


def _sample(file: Path, text_field: str | None, counter: RowCounter) -> int:
    """Count the beginning of a file, or all of it if it is short; return its bytes.

    A reader says how far it has read, which for JSON is ahead of the record that it returns; so a
    stretch of bytes counts when the first record after it comes.
    """
    source = Source(name=str(file), kind="files", files=(file,))
    covered_bytes, shape = 0, None
    with closing(read_records(source, columns_of_interest(text_field))) as records:
        for record in records:
            if shape is None:
                shape = recognise(record, text_field)
            elif record.done_bytes > max(covered_bytes, SAMPLE_BYTES):
                return covered_bytes
            example = read_example(record, shape, text_field)
            add = counter.add_text if isinstance(example, Text) else counter.add_example
            add(_tokens(example))
            covered_bytes = record.done_bytes
    return file.stat().st_size


def _tokens(example: Example) -> float:
    match example:
        case Text(text=text, ends=ends):
            return _of_text(text) + ends
        case Completion(prompt=prompt, answer=answer):
            return _of_text(prompt) + _of_text(answer) + 1
        case Instruction(instruction=instruction, input=context, output=output):
            return sum(map(_of_text, (instruction, context, output))) + 2 * MARKS_PER_MESSAGE
        case Chat(messages=messages):
            texts = (str(message.get("content") or "") for message in messages)
            return sum(_of_text(text) + MARKS_PER_MESSAGE for text in texts)


def _of_text(text: str) -> float:
    return len(text.encode()) / BYTES_PER_TOKEN
