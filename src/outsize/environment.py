"""What to paste into a bug report: versions, processor, memory, disk, accelerators.

Versions come from the installed packages' metadata, so that nothing heavy is imported and a broken
installation can still be described.
"""

import mmap
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from outsize.store.budget import host_limits
from outsize.store.kernel import free_bytes

PACKAGES = (
    "outsize",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "gguf",
    "datasets",
    "pyarrow",
    "huggingface-hub",
    "numpy",
    "rich",
    "psutil",
    "xxhash",
)

_DEVICE_QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentResult:
    """The machine and what is installed on it, as a bug report needs it.

    Attributes:
        versions: version by package name; None for one that is not installed.
        python: version of the interpreter.
        system: operating system and kernel.
        processor: CPU model.
        num_cores: cores of the machine; `num_usable_cores` is how many this process may use.
        memory_bytes: memory of the machine; `memory_free_bytes` is what this process can still
            take.
        memory_limit_bytes: the tightest container limit; None when there is none.
        folder: the working folder, whose disk is described.
        file_system: its type; None when it cannot be told.
        disk_free_bytes: what can be written there.
        direct_io: whether files there can be written past the page cache.
        devices: accelerators with their memory and driver, one text each.
    """

    versions: dict[str, str | None]
    python: str
    system: str
    processor: str
    num_cores: int
    num_usable_cores: int
    memory_bytes: int
    memory_free_bytes: int
    memory_limit_bytes: int | None
    folder: str
    file_system: str | None
    disk_free_bytes: int
    direct_io: bool
    devices: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of `outsize env`."""
        return {"command": "env", **asdict(self)}


def describe_environment(folder: Path, proc: Path = Path("/proc")) -> EnvironmentResult:
    """Describe this machine.

    Args:
        folder: an existing folder on the disk to describe.
        proc: where the kernel's figures are.

    Cost: one 4 KiB file in `folder`, removed at once.
    """
    limits = host_limits(proc)
    return EnvironmentResult(
        versions={name: _version(name) for name in PACKAGES},
        python=platform.python_version(),
        system=platform.platform(),
        processor=_processor(proc),
        num_cores=os.cpu_count() or 1,
        num_usable_cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        memory_free_bytes=limits.free_bytes,
        memory_limit_bytes=limits.limit_bytes,
        folder=str(folder.absolute()),
        file_system=_file_system(folder, proc),
        disk_free_bytes=free_bytes(folder),
        direct_io=_direct_io(folder),
        devices=_devices(),
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor(proc: Path) -> str:
    for line in _lines(proc / "cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path, proc: Path) -> str | None:
    """Find the mount with the longest path above `folder`; see proc(5) for the columns."""
    best, kind = Path(), None
    for line in _lines(proc / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        mount = Path(before.split()[4].encode().decode("unicode_escape"))
        if folder.resolve().is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, after.split()[0]
    return kind


def _direct_io(folder: Path) -> bool:
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".outsize-")
    except OSError:
        return False
    os.close(handle)
    try:
        handle = os.open(name, os.O_WRONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, 4096) as block:
                return os.write(handle, block) == 4096
        finally:
            os.close(handle)
    except OSError:
        return False
    finally:
        os.unlink(name)


def _devices() -> tuple[str, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        answer = subprocess.run(
            [tool, *_DEVICE_QUERY], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return (f"nvidia-smi failed: {error}",)
    return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
