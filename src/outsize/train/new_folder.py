"""A new folder for what a verb writes: it is whole or it is not there, and fits the budget."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outsize.errors import BudgetError, Contributor, Remedy, RunError, StorageError
from outsize.formats.stream_file import StreamFile
from outsize.quantities import align_up


def refuse_used(folder: Path) -> None:
    """Refuse to write to a file, or to a folder with anything in it.

    Raises:
        RunError: it is one.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise RunError(f"{folder} {what}; choose another folder with --output.")


def require_budget(
    subject: str, needed_bytes: int, budget_bytes: int, contributors: tuple[Contributor, ...]
) -> None:
    """Refuse a host budget that is too small for what is about to be written.

    Raises:
        BudgetError: it is, with the budget to ask for.
    """
    if needed_bytes <= budget_bytes:
        return
    remedy_bytes = align_up(needed_bytes, 8 * 2**20) + 8 * 2**20
    raise BudgetError(
        subject,
        needed_bytes=needed_bytes,
        budget_bytes=budget_bytes,
        tier="host",
        contributors=contributors,
        remedies=(
            Remedy(change=f"--memory {remedy_bytes // 2**20}MiB", needed_bytes=needed_bytes),
        ),
    )


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder; when something fails, remove it, or what was written into an empty one."""
    was_there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for path in folder.glob("*") if was_there else ():
            path.unlink(missing_ok=True)
        if not was_there:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise StorageError(
                f"Writing to {folder} failed: {error.strerror}. "
                "What was written of it has been removed."
            ) from error
        raise


def copy_small_files(source: Path, target: Path) -> None:
    """Copy tokenizer, chat template and generation config."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != "config.json":
            copy = StreamFile(target / path.name)
            try:
                with path.open("rb", buffering=0) as file:
                    while piece := file.read(4 * 2**20):
                        copy.append(memoryview(piece))
                copy.complete()
                copy.publish()
            except BaseException:
                copy.discard()
                raise
