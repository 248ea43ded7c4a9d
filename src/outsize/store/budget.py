"""What the machine and the container really allow, and what the process really took, read from the
kernel.

Nothing here trusts an account of our own. Control groups of both versions are followed up to the
root, because a nested group is held to the tightest limit above it.
"""

import contextlib
import os
import resource
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_UNLIMITED_BYTES = 2**60
"""A limit at or above this is none: version 1 writes a number near 2**63 for it."""

_STATUS_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """What host memory this process may use.

    Attributes:
        free_bytes: what can be taken now without swapping or being killed.
        limit_bytes: the tightest container limit; None when there is none.
        source: where `free_bytes` comes from: `machine` or the group's path.
    """

    free_bytes: int
    limit_bytes: int | None
    source: str


def host_limits(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> HostLimits:
    """Read what is free on the machine and in every memory control group above this process."""
    free_bytes, source = _available_bytes(proc), "machine"
    tightest: int | None = None
    for group, limit_files, usage_file, cache_key in _groups(proc, cgroup):
        limits = [_number(group / name) for name in limit_files]
        limit = min((n for n in limits if n is not None), default=_UNLIMITED_BYTES)
        if limit >= _UNLIMITED_BYTES:
            continue
        tightest = limit if tightest is None else min(tightest, limit)
        used = (_number(group / usage_file) or 0) - _reclaimable_bytes(group, cache_key)
        if limit - used < free_bytes:
            free_bytes, source = limit - used, str(group)
    return HostLimits(free_bytes=max(0, free_bytes), limit_bytes=tightest, source=source)


def _groups(proc: Path, cgroup: Path) -> Iterator[tuple[Path, tuple[str, ...], str, str]]:
    """Yield each memory group from this process up to the root, with its file names.

    A process above `memory.high` is held up until pages are free, so that is a limit too.
    """
    names: tuple[tuple[str, ...], str, str]
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            names = (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
            root = cgroup / "memory"
        elif not controllers:
            names = (("memory.max", "memory.high"), "memory.current", "inactive_file")
            root = cgroup / "unified" if (cgroup / "unified").is_dir() else cgroup
        else:
            continue
        group = root / path.lstrip("/")
        # Inside a container the path may be the host's; the container's own group is then the root.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield folder, *names


def _reclaimable_bytes(group: Path, key: str) -> int:
    for line in _text(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def _available_bytes(proc: Path) -> int:
    for line in _text(proc / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def resident_bytes(proc: Path = Path("/proc")) -> int:
    """Return what of this process is in memory now, shared libraries included."""
    return _status(proc, "VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class ResidentBytes:
    """Reads what `resident_bytes` returns again and again, with one system call each time."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._status: int | None = None
        with contextlib.suppress(OSError):
            self._status = os.open(proc / "self/status", os.O_RDONLY)
            weakref.finalize(self, os.close, self._status)

    def read(self) -> int:
        """Return what of this process is in memory now."""
        text = b"" if self._status is None else os.pread(self._status, _STATUS_BYTES, 0)
        words = text.partition(b"\nVmRSS:")[2].split(maxsplit=1)
        return int(words[0]) * 1024 if words else resident_bytes(self._proc)


def peak_resident_bytes(proc: Path = Path("/proc")) -> int:
    """Return the most that this process ever had in memory, by the kernel's own high-water mark."""
    return _status(proc, "VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
    """Let `peak_resident_bytes` count from now on, where the kernel can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_children_bytes() -> int:
    """Return the largest peak of any child process that has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _status(proc: Path, key: str) -> int | None:
    for line in _text(proc / "self/status").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return None


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
