"""What the container and the system allow this process, as far as a run can meet it."""

import os
import resource
from dataclasses import asdict, dataclass
from typing import Any

from outsize.store.budget import host_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Limits of this process; None where there is none.

    Attributes:
        machine_memory_bytes: memory of the machine.
        memory_bytes: tightest memory limit of the control groups above this process.
        memory_free_bytes: memory that can be taken now.
        memory_source: what decides that: `machine` or the path of a control group.
        address_space_bytes: limit of mapped memory (`ulimit -v`).
        locked_bytes: limit of memory that cannot be swapped (`ulimit -l`); copies to a GPU need it.
        file_bytes: limit of the length of a file (`ulimit -f`); a run has one large file.
        num_files: limit of open files (`ulimit -n`).
    """

    machine_memory_bytes: int
    memory_bytes: int | None
    memory_free_bytes: int
    memory_source: str
    address_space_bytes: int | None
    locked_bytes: int | None
    file_bytes: int | None
    num_files: int | None

    @property
    def usable_memory_bytes(self) -> int:
        """Memory that a process may use in all."""
        return min(self.machine_memory_bytes, self.memory_bytes or self.machine_memory_bytes)

    def to_json(self) -> dict[str, Any]:
        """Return the limits by name."""
        return asdict(self)


def process_limits() -> ProcessLimits:
    """Read the limits from the kernel."""
    host = host_limits()
    return ProcessLimits(
        machine_memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        memory_bytes=host.limit_bytes,
        memory_free_bytes=host.free_bytes,
        memory_source=host.source,
        address_space_bytes=_limit(resource.RLIMIT_AS),
        locked_bytes=_limit(resource.RLIMIT_MEMLOCK),
        file_bytes=file_limit_bytes(),
        num_files=_limit(resource.RLIMIT_NOFILE),
    )


def file_limit_bytes() -> int | None:
    """Return the limit of the length of a file; None when there is none."""
    return _limit(resource.RLIMIT_FSIZE)


def _limit(which: int) -> int | None:
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft
