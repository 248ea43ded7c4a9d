"""One process at a time in one run folder.

The kernel's own lock on a file: it ends with the process, however that ends, so there is never a
stale one to remove.
"""

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType

from outsize.errors import RunError, StorageError
from outsize.store.kernel import reason

LOCK_NAME = "run.lock"


class RunLock:
    """Holds the lock of a run folder from its creation until `release` or the end of the process.

    Args:
        folder: the run's folder, which exists.

    Raises:
        RunError: another process holds it; names the process.
        StorageError: the file system cannot lock.

    Cost: one small file that stays in the folder.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK_NAME
        try:
            self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(f"Locking {folder} failed: {reason(error)}.") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, str(os.getpid()).encode(), 0)
        except OSError as error:
            holder = os.pread(self._fd, 20, 0).decode(errors="replace")
            os.close(self._fd)
            if error.errno == errno.EWOULDBLOCK:
                raise RunError(_message(folder, holder)) from error
            raise StorageError(f"Locking {folder} failed: {reason(error)}.") from error

    def release(self) -> None:
        """Let other processes in; may be called again."""
        if self._fd is None:
            return
        os.ftruncate(self._fd, 0)
        os.close(self._fd)
        self._fd = None

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _message(folder: Path, holder: str) -> str:
    who = f"process {holder}" if holder else "another process"
    return (
        f"{folder} is in use by {who}.\n  Wait for it to end, stop it, or choose another --output."
    )
