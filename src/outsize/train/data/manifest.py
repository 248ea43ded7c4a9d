"""`dataset.json`: what a folder of rows holds; written last, so a folder with it is whole."""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from outsize.errors import DataError

MANIFEST_NAME = "dataset.json"
ROW_FILES = ("input_ids.i32", "labels.i32", "position_ids.i32")
"""Little-endian int32 without a header, [num_rows, seq_length] each."""

COUNT_FILE = "rows.i32"
"""Likewise, [num_rows]: the number of labels of each row."""

EVALUATION_FOLDER = "evaluation"
"""Name of the folder, inside of the output, of the rows that are set aside."""

VERSION = 1
"""Raised whenever the same input would give other rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """What a folder of rows holds.

    Attributes:
        version: of the rows' format.
        num_rows: rows of `seq_length` tokens.
        seq_length: tokens of a row.
        num_documents: documents or examples that begin in these rows.
        num_tokens: tokens of documents, filling not counted.
        num_loss_tokens: places that have a label.
        max_token_id: largest token id, to compare with the model's vocabulary.
        num_truncated: examples that were longer than a row and were cut, of the whole data.
        num_dropped: examples with no token to learn, of the whole data.
        num_evaluation_rows: rows that were set aside in the folder `evaluation`.
        shape: how the records were understood.
        source: what the user named.
        fingerprint: hash over source, options and tokenizer.
        tokenizer_hash: hash over the tokenizer's files.
    """

    version: int = VERSION
    num_rows: int = 0
    seq_length: int
    num_documents: int = 0
    num_tokens: int = 0
    num_loss_tokens: int = 0
    max_token_id: int = 0
    num_truncated: int
    num_dropped: int
    num_evaluation_rows: int
    shape: str
    source: str
    fingerprint: str
    tokenizer_hash: str


def read_info(folder: Path) -> DatasetInfo:
    """Read `dataset.json` of a folder.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / MANIFEST_NAME
    try:
        fields = json.loads(path.read_bytes())
        info = DatasetInfo(**fields)
    except OSError as error:
        raise DataError(
            f"{folder} holds no prepared data ({MANIFEST_NAME}: {error.strerror})."
        ) from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}.") from error
    wrong = [field.name for field in dataclasses.fields(info) if not _is_valid(info, field)]
    if wrong or info.version != VERSION:
        raise DataError(f"{path} is damaged: {', '.join(wrong) or 'version'} has no usable value.")
    return info


def _is_valid(info: DatasetInfo, field: "dataclasses.Field[object]") -> bool:
    value = getattr(info, field.name)
    if field.type is str:
        return isinstance(value, str)
    return type(value) is int and value >= 0


def write_info(folder: Path, info: DatasetInfo) -> None:
    """Write `dataset.json` so that it is either there whole or not at all."""
    path = folder / MANIFEST_NAME
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        json.dump(dataclasses.asdict(info), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
