"""Creating files so that a crash leaves either the whole file or none.

The journal and the state file are born here. A file's bytes are durable after its own sync, its
name only after its folder's.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

from outsize.errors import StorageError
from outsize.quantities import format_bytes
from outsize.store.kernel import Kernel, reason


def sync_folder(folder: Path) -> None:
    """Make the names inside a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole_file(path: Path, content: bytes) -> None:
    """Write a small file under a temporary name, sync it and rename it over `path`.

    Raises:
        StorageError: the disk refused; nothing is left behind and what `path` named before is
            untouched.
    """
    temporary = path.with_name(f"{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(f"Creating {path} failed: {reason(error)}.") from error


def allocate_file(path: Path, size_bytes: int, kernel: Kernel) -> None:
    """Create a file whose space is taken now, so that a full disk shows before a run.

    Raises:
        StorageError: the file exists, the disk has too little space, or it failed; no new file is
            left behind.

    Cost: `size_bytes` on disk until the file is deleted.
    """
    try:
        if kernel.free_bytes(path.parent) < size_bytes:
            raise _disk_full(path, size_bytes, kernel)
        # Not opened for direct I/O: where the file system cannot allocate, the C library writes
        # single bytes instead.
        fd = kernel.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError as error:
        raise StorageError(f"{path} exists already; it is not overwritten.") from error
    except OSError as error:
        raise StorageError(f"Creating {path} failed: {reason(error)}.") from error
    try:
        kernel.posix_fallocate(fd, 0, size_bytes)
        os.fsync(fd)
        sync_folder(path.parent)
    except OSError as error:
        path.unlink()
        raise _allocation_error(path, size_bytes, kernel, error) from error
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(fd)


def _allocation_error(path: Path, size_bytes: int, kernel: Kernel, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(path, size_bytes, kernel)
    return StorageError(
        f"Allocating {format_bytes(size_bytes)} for {path} failed: {reason(error)}."
    )


def _disk_full(path: Path, size_bytes: int, kernel: Kernel) -> StorageError:
    return StorageError(
        f"{path} needs {format_bytes(size_bytes)} on disk; "
        f"{format_bytes(kernel.free_bytes(path.parent))} are free.\n"
        "  Free some space or choose a folder on another drive; nothing was left behind."
    )
