"""Paths as users write them.

`~` is replaced, and looking at a place never fails: where the system refuses a name, because it is
too long or its folder may not be searched, nothing is there that can be used.
"""

import os
import stat
from pathlib import Path


def user_path(text: str) -> Path:
    """Return the path that a user wrote, with `~` and `~name` replaced where that home is known."""
    return Path(os.path.expanduser(text))


def is_there(path: Path) -> bool:
    """Tell whether something can be found at a path; unlike `Path.exists` it never raises."""
    return os.path.exists(path)


def is_file(path: Path) -> bool:
    """Tell whether a file can be found at a path; unlike `Path.is_file` it never raises."""
    return os.path.isfile(path)


def is_folder(path: Path) -> bool:
    """Tell whether a folder can be found at a path; unlike `Path.is_dir` it never raises."""
    return os.path.isdir(path)


def can_write_file(path: Path) -> bool:
    """Tell whether a file can be made at a path, or the one that is there be written anew."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return is_folder(path.parent) and os.access(path.parent, os.W_OK | os.X_OK)
    except (OSError, ValueError):
        return False
    return not stat.S_ISDIR(mode) and os.access(path, os.W_OK)
