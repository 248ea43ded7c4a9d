"""A whole machine measured: the parts one after the other, put together to a profile.

Everything that needs PyTorch runs in a child process, one at a time, so that this process stays
small: `train` calls this inside the user's budget before it has grown. `sizes.py` says how large
and how long, `known.py` when at all.
"""

import datetime
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from outsize.isolate import run_isolated
from outsize.machines.fingerprint import (
    machine_fingerprint,
    num_compute_threads,
    num_usable_cores,
    printable,
    processor_name,
)
from outsize.machines.records import from_json, to_json
from outsize.probe import sizes as default_sizes
from outsize.probe.disk_blocks import MeasuredDisk, measure_disk_blocks
from outsize.probe.limits import process_limits
from outsize.probe.sizes import DiskSizes, ProbeSizes
from outsize.runtime.events import Notice, OnEvent, PhaseAdvanced, ignore, phase
from outsize.spec.machine import (
    Accelerator,
    AttentionRate,
    MachineProfile,
    MatmulRate,
    Processor,
)

Record = TypeVar("Record")

_BUSY_FRACTION = 0.5
"""Of the cores, by the load average of the last minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMachine:
    """A machine, and what measuring it took.

    Attributes:
        profile: what was measured.
        is_direct: whether transfers go past the page cache in the folder.
        scratch_bytes: the most that scratch files took on the folder's disk.
        bytes_read: read from it; `bytes_written` likewise.
    """

    profile: MachineProfile
    is_direct: bool
    scratch_bytes: int
    bytes_read: int
    bytes_written: int


def probe_in_child(
    folder: Path,
    on_event: OnEvent = ignore,
    *,
    threads: int | None = None,
    sizes: ProbeSizes | None = None,
) -> MachineProfile:
    """Measure this machine and the disk of `folder`; see `measure_machine`."""
    return measure_machine(folder, on_event, threads=threads, sizes=sizes).profile


def measure_machine(
    folder: Path,
    on_event: OnEvent,
    *,
    threads: int | None = None,
    sizes: ProbeSizes | None = None,
) -> MeasuredMachine:
    """Measure this machine and the disk of `folder`.

    Args:
        folder: it exists.
        on_event: told of five phases.
        threads: compute threads; None takes PyTorch's default.
        sizes: what to measure with; None takes the full sizes.

    Raises:
        OutsizeError: the disk is too full or fails, or a child was killed.

    Cost: less than a minute on two cores. One child process at a time, of about 420 MiB at most; a
    GPU's libraries take what they take. Here two of the largest transfers, 32 MiB. See
    `measure_disk_blocks` for the disk.
    """
    wanted = default_sizes.FULL if sizes is None else sizes
    _tell_when_busy(on_event)
    libraries = _child("libraries", on_event, "host:measure_baseline", {})
    host = to_json(wanted.host)
    products = _child("products", on_event, "host:measure_products", _with(host, threads))
    attention = _child("attention", on_event, "host:measure_attention", _with(host, threads))
    accelerator = _accelerator(wanted, on_event) if libraries["has_accelerator"] else None
    disk = measure_disk(folder, on_event, wanted.disk)
    arguments = {"folder": str(folder), **_with(to_json(wanted.interference), threads)}
    beside = _child("overlap", on_event, "interference:measure_interference", arguments)
    profile = MachineProfile(
        name=printable(platform.node()) or "this machine",
        fingerprint=machine_fingerprint(threads),
        measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        host=_processor(products, attention, threads),
        accelerator=accelerator,
        disk=disk.disk,
        baseline_bytes=libraries["baseline_bytes"],
        compute_loss_s_per_byte=beside["compute_loss_s_per_byte"],
    )
    return MeasuredMachine(
        profile=profile,
        is_direct=disk.is_direct,
        scratch_bytes=max(disk.scratch_bytes, beside["scratch_bytes"]),
        bytes_read=disk.bytes_read + beside["bytes_read"],
        bytes_written=disk.bytes_written + beside["bytes_written"],
    )


def measure_disk(folder: Path, on_event: OnEvent, sizes: DiskSizes) -> MeasuredDisk:
    """Measure the disk of `folder` as a phase; see `measure_disk_blocks`."""
    with phase("disk", on_event, len(sizes.block_bytes), "transfer sizes"):
        return measure_disk_blocks(
            folder,
            sizes,
            notice=lambda text: on_event(Notice(text=text)),
            advance=lambda done: on_event(PhaseAdvanced(phase="disk", done=done)),
        )


def _tell_when_busy(on_event: OnEvent) -> None:
    load = os.getloadavg()[0]
    if load > _BUSY_FRACTION * num_usable_cores():
        text = (
            f"other programs keep {load:.1f} of {num_usable_cores()} cores busy: what is measured "
            "now is slower than the machine. Run `outsize probe` again when it is idle."
        )
        on_event(Notice(text=text))


def _with(sizes: dict[str, Any], threads: int | None) -> dict[str, Any]:
    return {"sizes": sizes, "threads": threads}


def _child(name: str, on_event: OnEvent, function: str, arguments: dict[str, Any]) -> Any:
    with phase(name, on_event):
        return run_isolated(f"outsize.probe.{function}", arguments)


def _accelerator(sizes: ProbeSizes, on_event: OnEvent) -> Accelerator | None:
    arguments = {"sizes": to_json(sizes.device)}
    found = _child("device", on_event, "device:measure_device", arguments)
    if found["accelerator"] is None:
        text = f"the GPU is left out, it cannot be measured: {found['problem']}."
        on_event(Notice(text=text))
        return None
    return from_json(Accelerator, found["accelerator"], "accelerator")


def _processor(
    products: dict[str, Any], attention: dict[str, Any], threads: int | None
) -> Processor:
    return Processor(
        name=processor_name(),
        num_cores=num_compute_threads(threads),
        memory_bytes=process_limits().usable_memory_bytes,
        memory_bytes_per_s=products["memory_bytes_per_s"],
        elementwise_bytes_per_s=products["elementwise_bytes_per_s"],
        matmul=_all(MatmulRate, products["matmul"]),
        attention=_all(AttentionRate, attention["attention"]),
    )


def _all(record: type[Record], items: list[Any]) -> tuple[Record, ...]:
    return tuple(from_json(record, item) for item in items)
