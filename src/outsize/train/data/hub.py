"""Data sets of the Hugging Face Hub, streamed so that no copy lands on disk.

The only file of the package that talks to the network, through `huggingface_hub` and `datasets`.
"""

from collections.abc import Iterator
from typing import Any

from outsize.errors import DataError


def hub_revision(name: str) -> str:
    """Return the commit that the Hub data set `name` is at.

    Raises:
        DataError: it is not there, is private, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        revision = HfApi().dataset_info(name).sha
    except Exception as error:  # the HTTP client's own errors are no public class
        raise DataError(
            f"There is no data at {name!r}: no such file or folder here, and the Hugging Face Hub "
            f"gave no data set of this name ({_reason(error)})."
        ) from error
    if revision is None:
        raise DataError(f"The Hub states no commit for the data set {name!r}.")
    return str(revision)


def hub_batches(name: str, revision: str, split: str, rows: int) -> Iterator[dict[str, list[Any]]]:
    """Yield the data set in batches of columns.

    Raises:
        DataError: the split is not there, or the Hub cannot be reached.
    """
    import datasets

    try:
        loaded = datasets.load_dataset(name, split=split, revision=revision, streaming=True)
        yield from loaded.iter(batch_size=rows)
    except Exception as error:  # as above, and one class for each file format behind it
        raise DataError(
            f"The split {split!r} of the Hub data set {name!r} cannot be read ({_reason(error)})."
        ) from error


def _reason(error: Exception) -> str:
    first_line, _, _ = str(error).strip().partition("\n")
    return f"{type(error).__name__}: {first_line}"
