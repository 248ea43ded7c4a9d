"""What must be the same for a measured profile to hold, as text that people can compare.

For example `AMD EPYC 9654, 2 cores, 24 GiB, torch 2.13.0`. The disk is no part of it: its rates
belong to a folder, see `probe/known.py`.
"""

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

from outsize.spec.machine import MachineProfile

_NUM_PARTS = 4
_MOST_DAYS = 90
_CLOCK_ERROR = datetime.timedelta(hours=1)
"""A profile that is dated so little into the future was written before the clock was set right."""


def machine_fingerprint(threads: int | None = None, proc: Path = Path("/proc")) -> str:
    """Return the fingerprint of this machine as a process with `threads` compute threads sees it.

    Args:
        threads: compute threads; None takes `OMP_NUM_THREADS`, as PyTorch does, or else all usable
            cores.
        proc: where the kernel's figures are.
    """
    parts = (processor_name(proc), _cores(threads), _memory(), f"torch {_torch_version()}")
    return ", ".join(parts)


def processor_name(proc: Path = Path("/proc")) -> str:
    """Return what the processor's maker calls it."""
    try:
        lines = (proc / "cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model") and value.strip():
            return printable(value)
    return printable(platform.processor()) or printable(platform.machine()) or "unknown processor"


def printable(text: str) -> str:
    """Return text on one line without control characters."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def num_compute_threads(threads: int | None = None) -> int:
    """Return how many threads PyTorch computes with; see `machine_fingerprint`."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if threads is None and asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return threads or num_usable_cores()


def threads_variant(threads: int | None) -> str | None:
    """Return what a profile for so many compute threads is called beside the usual one, which is
    that of all usable cores; None for that one.
    """
    used = num_compute_threads(threads)
    return None if used == num_usable_cores() else _count(used, "thread")


def num_usable_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def staleness(profile: MachineProfile, fingerprint_now: str, now: datetime.datetime) -> str | None:
    """Say why a profile does not hold any more, as a sentence without its end; None when it does.

    Args:
        profile: the saved one.
        fingerprint_now: `machine_fingerprint()`.
        now: this moment, with its time zone.
    """
    if profile.fingerprint is not None and profile.fingerprint != fingerprint_now:
        return _difference(profile.fingerprint, fingerprint_now)
    if profile.measured_at is None:
        return None
    age = now - datetime.datetime.fromisoformat(profile.measured_at)
    if age < -_CLOCK_ERROR:
        return f"it is dated in the future, {profile.measured_at}"
    if age > datetime.timedelta(days=_MOST_DAYS):
        return f"it is {age.days} days old, and {_MOST_DAYS} are allowed"
    return None


def _difference(saved: str, now: str) -> str:
    # From the right: a processor's name may hold a comma.
    old, new = (text.rsplit(", ", _NUM_PARTS - 1) for text in (saved, now))
    if len(old) != _NUM_PARTS or len(new) != _NUM_PARTS:
        return f"it was measured on another machine, {saved}"
    pairs = zip(old, new, strict=True)
    changes = [f"{after} instead of {before}" for before, after in pairs if before != after]
    return f"the machine has {'; '.join(changes)}"


def _cores(threads: int | None) -> str:
    cores, used = num_usable_cores(), num_compute_threads(threads)
    text = _count(cores, "core")
    return text if used == cores else f"{_count(used, 'thread')} on {text}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _memory() -> str:
    num_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{max(1, round(num_bytes / 2**30))} GiB"


def _torch_version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "not installed"
