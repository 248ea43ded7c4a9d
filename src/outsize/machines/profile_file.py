"""The file that keeps what was measured of a machine.

One JSON object: `format`, and `profile` with the fields of `spec/machine.py` under their own names,
which carry their units. It can be read, compared and given to a colleague. A file that is damaged
in any way is refused with its path and the remedy.
"""

import contextlib
import datetime
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

from outsize.errors import MachineError
from outsize.machines.records import RecordError, from_json, to_json
from outsize.spec.machine import MachineProfile

FORMAT = 1
_MOST_BYTES = 4 * 2**20
"""A profile takes some 20 KiB."""

_NO_NAME = re.compile(r"[^A-Za-z0-9.]+")
_MOST_NAME = 100

_REMEDY = "Run `outsize probe` to measure this machine and write the file anew."


def profile_path(variant: str | None = None) -> Path:
    """Return where the profile of this machine is kept: `$OUTSIZE_HOME/machine.json`, else
    `$XDG_CACHE_HOME/outsize/machine.json`, else `~/.cache/outsize/machine.json`.

    Args:
        variant: what is not as usual, such as another disk, in words that become part of the
            file's name.

    Raises:
        MachineError: there is no home folder.
    """
    name = "machine.json"
    if variant is not None:
        name = f"machine-{_NO_NAME.sub('-', variant).strip('-')[:_MOST_NAME]}.json"
    if home := os.environ.get("OUTSIZE_HOME"):
        return Path(home) / name
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(cache):  # the XDG base directory specification ignores any other
        return Path(cache) / "outsize" / name
    try:
        return Path.home() / ".cache" / "outsize" / name
    except RuntimeError as error:
        raise MachineError(
            "This user has no home folder to keep a machine profile in; set OUTSIZE_HOME to a "
            "folder for it."
        ) from error


def check_can_save(path: Path) -> None:
    """Refuse, before anything is measured, a place where a profile cannot be written.

    Raises:
        MachineError: `path` is a folder, or its folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error.strerror) from error
    if path.is_dir():
        raise _cannot_write(path, "it is a folder")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _cannot_write(path, "its folder is not writable")


def save_profile(profile: MachineProfile, path: Path) -> None:
    """Write the profile; a reader sees the old file or the new one, never a part of it.

    Raises:
        MachineError: the file cannot be written; what was there before is untouched.
    """
    content = {"format": FORMAT, "profile": to_json(profile)}
    text = json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    assert _parse(text.encode()) == profile, "a profile that could not be read again"
    check_can_save(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error.strerror) from error


def load_profile(path: Path) -> MachineProfile:
    """Read a profile.

    Raises:
        MachineError: it cannot be read, or is not whole and sound in every field.
    """
    try:
        return _parse(_content(path))
    except OSError as error:
        raise MachineError(
            f"The machine profile {path} cannot be read: {error.strerror}. {_REMEDY}"
        ) from error
    except RecordError as error:
        raise MachineError(
            f"The machine profile {path} cannot be used: {error}. {_REMEDY}"
        ) from error


def _cannot_write(path: Path, why: str | None) -> MachineError:
    return MachineError(
        f"The machine profile {path} cannot be written: {why}. Name another file with --output, or "
        "set OUTSIZE_HOME to a folder that can be written."
    )


def _content(path: Path) -> bytes:
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise RecordError("it is not a file")
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise RecordError(f"it is longer than any profile, {status.st_size:,} bytes")
    return content


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; without this flag, a named pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _parse(content: bytes) -> MachineProfile:
    try:
        whole = json.loads(
            content, parse_constant=_refuse_constant, object_pairs_hook=_without_twice
        )
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecordError(f"it is not JSON ({error})") from error
    if not isinstance(whole, dict) or set(whole) != {"format", "profile"}:
        raise RecordError("it must be an object of `format` and `profile`")
    if whole["format"] != FORMAT or isinstance(whole["format"], bool):
        raise RecordError(f"its format is not {FORMAT}, the one that this version reads")
    profile = from_json(MachineProfile, whole["profile"], "profile")
    _check(profile)
    return profile


def _refuse_constant(name: str) -> NoReturn:
    raise RecordError(f"it holds {name}, which is no finite number")


def _without_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RecordError("a field is written twice")
    return found


def _check(profile: MachineProfile) -> None:
    """Check what holds between fields."""
    accelerator = profile.accelerator
    for processor in (profile.host, *([accelerator.processor] if accelerator else [])):
        if not processor.matmul:
            raise RecordError(f"the matmul rates of {processor.name} are empty")
    if profile.measured_at is None:
        return
    try:
        moment = datetime.datetime.fromisoformat(profile.measured_at)
    except ValueError as error:
        raise RecordError(f"measured_at is no date: {profile.measured_at!a}") from error
    if moment.utcoffset() is None:
        raise RecordError(f"measured_at names no time zone: {profile.measured_at!a}")
