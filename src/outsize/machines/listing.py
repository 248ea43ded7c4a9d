"""What `outsize machines` returns: the catalogue as a list, or one machine in full.

Bytes are whole numbers, rates are floats, as in `results.py`. The profile has the fields of
`spec/machine.py`, as a profile file has them.
"""

from dataclasses import asdict, dataclass
from typing import Any

from outsize.machines.catalogue import (
    catalogue_entry,
    catalogue_machine,
    catalogue_sources,
    find_machine,
    is_profile,
    machine_names,
)
from outsize.machines.entries import MachineEntry
from outsize.spec.machine import MachineProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRow:
    """One machine in short.

    Attributes:
        name: what `--machine` takes.
        summary: what it is; None for a profile file.
        processor: name of the host's processor.
        num_cores: cores that a process may use; None when not known.
        memory_bytes: main memory that a process may use.
        accelerator: name of the accelerator; None without one, as the next four.
        accelerator_memory_bytes: its memory.
        link: name of its link to the host; None in a profile file.
        to_device_bytes_per_s: rate of copies to it.
        from_device_bytes_per_s: rate of copies from it.
        drive: name of the drive.
        read_bytes_per_s: sustained, reads alone.
        write_bytes_per_s: sustained, writes alone.
    """

    name: str
    summary: str | None
    processor: str
    num_cores: int | None
    memory_bytes: int
    accelerator: str | None
    accelerator_memory_bytes: int | None
    link: str | None
    to_device_bytes_per_s: float | None
    from_device_bytes_per_s: float | None
    drive: str
    read_bytes_per_s: float
    write_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSource:
    """Where the numbers of one part are from.

    Attributes:
        part: name of the part.
        confidence: `high`, `medium` or `low`.
        source: who says so.
        comment: what else is to be known; empty when nothing is.
    """

    part: str
    confidence: str
    source: str
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinesResult:
    """The catalogue, or one machine.

    Attributes:
        machines: each in short.
        profile: the one that was asked for, in full; None for the list.
        sources: of its parts; empty for the list and for a profile file.
    """

    machines: tuple[MachineRow, ...]
    profile: MachineProfile | None
    sources: tuple[PartSource, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of `outsize machines`."""
        return {"command": "machines", **asdict(self)}


def list_machines() -> MachinesResult:
    """List the catalogue."""
    rows = (_row(catalogue_machine(name), catalogue_entry(name)) for name in machine_names())
    return MachinesResult(machines=tuple(rows), profile=None, sources=())


def describe_machine(text: str) -> MachinesResult:
    """Describe one machine.

    Args:
        text: a name of the catalogue or the path of a profile file; see `find_machine`.

    Raises:
        UsageError: neither is there.
        MachineError: the file cannot be read or is damaged.
    """
    profile = find_machine(text)
    if is_profile(text):
        return MachinesResult(machines=(_row(profile, None),), profile=profile, sources=())
    sources = tuple(
        PartSource(
            part=part,
            confidence=found.confidence,
            source=found.source,
            comment=found.comment,
        )
        for part, found in catalogue_sources(text)
    )
    row = _row(profile, catalogue_entry(text))
    return MachinesResult(machines=(row,), profile=profile, sources=sources)


def _row(profile: MachineProfile, entry: MachineEntry | None) -> MachineRow:
    """Return a machine in short; a profile file has no entry."""
    device = profile.accelerator
    return MachineRow(
        name=profile.name,
        summary=None if entry is None else entry.summary,
        processor=profile.host.name,
        num_cores=profile.host.num_cores,
        memory_bytes=profile.host.memory_bytes,
        accelerator=None if device is None else device.processor.name,
        accelerator_memory_bytes=None if device is None else device.processor.memory_bytes,
        link=None if entry is None else entry.link,
        to_device_bytes_per_s=None if device is None else device.to_device_bytes_per_s,
        from_device_bytes_per_s=None if device is None else device.from_device_bytes_per_s,
        drive=profile.disk.name,
        read_bytes_per_s=profile.disk.read_bytes_per_s,
        write_bytes_per_s=profile.disk.write_bytes_per_s,
    )
