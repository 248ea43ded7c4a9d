"""What decides how data become rows, in one frozen record, checked before anything is read."""

from dataclasses import dataclass, fields
from typing import Any, get_args

from outsize.errors import UsageError
from outsize.train.data.render import TrainOn


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """Options of `prepare_data`.

    Attributes:
        data: file, folder, glob, `builtin:python-reference` or Hub data set id.
        tokenizer_folder: folder with the tokenizer's files; None is an error that says so.
        output: folder for the rows.
        max_seq_length: tokens of a row.
        train_on: `answer`, `all`, or `auto`: answers of what has answers, all of plain text.
        text_field: field of the records that holds the text; None recognises the shape.
        split: which split of a folder or Hub data set.
        packing: whether several short examples share a row.
        evaluation_fraction: fraction of the rows (0 to 1) that goes to the folder `evaluation`.

    Raises:
        UsageError: a value is out of range.
    """

    data: str
    tokenizer_folder: str | None
    output: str
    max_seq_length: int
    train_on: TrainOn = "auto"
    text_field: str | None = None
    split: str = "train"
    packing: bool = True
    evaluation_fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.max_seq_length < 2:
            raise UsageError(
                "--max-seq-length must be 2 or more, since one token has nothing to predict; it is "
                f"{self.max_seq_length}."
            )
        if self.train_on not in get_args(TrainOn):
            known = ", ".join(get_args(TrainOn))
            raise UsageError(f"--train-on must be one of {known}; it is {self.train_on!r}.")
        if not 0 <= self.evaluation_fraction < 1:
            raise UsageError(
                "--evaluation-fraction must be at least 0 and below 1; it is "
                f"{self.evaluation_fraction}."
            )

    def identity(self) -> dict[str, Any]:
        """Return what decides the content of the rows, besides the data and the tokenizer."""
        apart = {"data", "tokenizer_folder", "output"}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in apart}
