"""One record of the training data, with the place it came from."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record, or a piece of a plain text file.

    Attributes:
        where: file and line or row, for messages.
        fields: the record's fields.
        done_bytes: bytes of the source that are read once this record is; 0 where that is not
            known.
        begins: False where it continues the text of the record before.
        ends: False where the next record continues its text.
    """

    where: str
    fields: dict[str, Any]
    done_bytes: int
    begins: bool = True
    ends: bool = True
