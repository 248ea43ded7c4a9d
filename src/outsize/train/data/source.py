"""What `--data` names, resolved to files before anything is read.

A name is a built-in, a file, a folder, a glob or a Hugging Face Hub id, tried in that order.
`readers.py` reads what is found here.
"""

import glob
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from outsize.errors import DataError
from outsize.paths import is_file, is_folder, user_path
from outsize.train.data.reference import BUILTIN_NAME, reference_topics

SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".parquet")
"""Extensions of the files that can be read."""

_SPLIT_WORDS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev", "eval"},
    "test": {"test", "testing"},
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Training data that was found, not yet read.

    Attributes:
        name: what the user wrote.
        kind: `files` are read one after the other, `saved` is a folder made by `save_to_disk`,
            `builtin` and `hub` have no files of their own.
        files: files in the order of reading, or all files of a saved folder.
        split: the split to take of a saved folder or a Hub data set.
        num_files_skipped: files of a folder that are of another split or no data.
        revision: content hash of a built-in or commit of a Hub data set; None where files say it.
    """

    name: str
    kind: Literal["files", "saved", "builtin", "hub"]
    files: tuple[Path, ...] = ()
    split: str = "train"
    num_files_skipped: int = 0
    revision: str | None = None

    @property
    def size_bytes(self) -> int | None:
        """Bytes of the files together; None when they are not known before reading."""
        return sum(path.stat().st_size for path in self.files) if self.kind == "files" else None

    def identity(self) -> list[object]:
        """Return what makes this source equal to another one: names, sizes and times of change."""
        stats = ((path, path.stat()) for path in self.files)
        files = [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats]
        return [self.kind, "" if self.files else self.name, self.split, self.revision, files]


def find_source(name: str, split: str) -> Source:
    """Resolve `name` to files, or to a built-in or Hub data set.

    Raises:
        DataError: there is no such data, it holds no file that can be read, or the split is not
            there.
    """
    if name.startswith("builtin:"):
        return _builtin(name)
    path = user_path(name)
    if is_file(path):
        _check_suffix(path)
        return Source(name=name, kind="files", files=(path,))
    if is_folder(path):
        return _folder(name, path, split)
    if glob.has_magic(name):
        return _glob(name)
    if _HUB_ID.fullmatch(name) and path.suffix not in SUFFIXES:
        from outsize.train.data.hub import hub_revision

        return Source(name=name, kind="hub", split=split, revision=hub_revision(name))
    raise DataError(f"There is no data at {name!r}: no such file or folder.")


def _builtin(name: str) -> Source:
    if name != BUILTIN_NAME:
        raise DataError(f"There is no built-in data {name!r}; the one there is: {BUILTIN_NAME}.")
    digest = hashlib.sha256()
    for title, text in reference_topics():
        digest.update(f"{title}\0{text}\0".encode())
    return Source(name=name, kind="builtin", revision=digest.hexdigest())


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{path} has the extension {path.suffix or '(none)'!r}, which is not known; "
            f"known are {', '.join(SUFFIXES)}."
        )


def _glob(name: str) -> Source:
    pattern = str(user_path(name))
    files = tuple(Path(match) for match in sorted(glob.glob(pattern, recursive=True)))
    files = tuple(path for path in files if path.is_file())
    if not files:
        raise DataError(f"The pattern {name!r} matches no file.")
    for path in files:
        _check_suffix(path)
    return Source(name=name, kind="files", files=files)


def _folder(name: str, folder: Path, split: str) -> Source:
    every = tuple(path for path in sorted(folder.rglob("*")) if path.is_file())
    visible = tuple(p for p in every if not any(s[0] == "." for s in p.relative_to(folder).parts))
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return Source(name=name, kind="saved", files=visible, split=split)
    known = tuple(path for path in visible if path.suffix.lower() in SUFFIXES)
    if not known:
        raise DataError(f"The folder {name} holds no file of {', '.join(SUFFIXES)}.")
    files = _of_split(name, folder, known, split)
    skipped = len(visible) - len(files)
    return Source(name=name, kind="files", files=files, num_files_skipped=skipped)


def _of_split(name: str, folder: Path, files: tuple[Path, ...], split: str) -> tuple[Path, ...]:
    """Pick the files of one split by the words of their names, as on the Hub."""
    split_of = {path: _named_split(path.relative_to(folder)) for path in files}
    chosen = tuple(path for path in files if split_of[path] == split)
    if not chosen and split == "train":
        chosen = tuple(path for path in files if split_of[path] is None)
    if not chosen:
        found = sorted({named for named in split_of.values() if named is not None})
        raise DataError(
            f"The folder {name} holds no file of the split {split!r}; "
            f"splits found by file name: {', '.join(found) or 'none'}."
        )
    return chosen


def _named_split(relative: Path) -> str | None:
    words = set(re.split(r"[^a-z0-9]+", str(relative).lower()))
    for split, names in _SPLIT_WORDS.items():
        if words & names:
            return split
    return None
