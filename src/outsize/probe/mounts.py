"""Which disk a folder lies on, in words that are the same after a restart."""

import os
from pathlib import Path

from outsize.machines.fingerprint import printable


def disk_name(folder: Path, proc: Path = Path("/proc")) -> str:
    """Return the file system of a folder and where it comes from: `ext4 on /dev/vda`.

    Two folders of one disk have the same name. Numbers of devices are no part of it: containers get
    new ones at every start.

    Args:
        folder: it exists.
        proc: where the kernel's figures are.
    """
    mount = _mount(folder.resolve(), proc)
    if mount is None:
        return f"device {os.stat(folder).st_dev}"
    kind, source = mount
    return printable(f"{kind} on {source}")


def _mount(folder: Path, proc: Path) -> tuple[str, str] | None:
    """Find the mount with the longest path above `folder`; see proc(5) for the columns."""
    try:
        lines = (proc / "self" / "mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None
    best, found = Path(), None
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = Path(_unescaped(before.split()[4]))
        if folder.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            kind, source = after.split()[:2]
            best, found = mount, (kind, _unescaped(source))
    return found


def _unescaped(text: str) -> str:
    """Undo the octal escapes of spaces and the like."""
    for character in " \t\n\\":
        text = text.replace(f"\\{ord(character):03o}", character)
    return text
