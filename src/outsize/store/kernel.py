"""The system calls that the disk tier makes, as one record that tests can replace call by call.

Everything else in this package reaches a drive through it, so a short read, a full disk or a file
system without direct I/O is one `dataclasses.replace` away and needs no such drive.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """Return the bytes that an unprivileged process can still write on the folder's file system."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """System calls as `os` has them; Python itself repeats those that a signal interrupts.

    Attributes:
        open: `os.open(path, flags, mode)`.
        preadv: `os.preadv(fd, buffers, offset)`.
        pwritev: `os.pwritev(fd, buffers, offset)`.
        posix_fallocate: `os.posix_fallocate(fd, offset, size)`.
        posix_fadvise: `os.posix_fadvise(fd, offset, size, advice)`.
        fdatasync: `os.fdatasync(fd)`.
        free_bytes: bytes free on the file system of a folder.
    """

    open: Callable[[Path, int, int], int] = os.open
    preadv: Callable[[int, list[memoryview], int], int] = os.preadv
    pwritev: Callable[[int, list[memoryview], int], int] = os.pwritev
    posix_fallocate: Callable[[int, int, int], None] = os.posix_fallocate
    posix_fadvise: Callable[[int, int, int, int], None] = os.posix_fadvise
    fdatasync: Callable[[int], None] = os.fdatasync
    free_bytes: Callable[[Path], int] = free_bytes


def reason(error: OSError) -> str:
    """Return what the system said and its symbol: `No space left on device (ENOSPC)`."""
    code = "no errno" if error.errno is None else errno.errorcode.get(error.errno, str(error.errno))
    return f"{error.strerror} ({code})"
