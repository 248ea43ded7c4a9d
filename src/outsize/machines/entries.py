"""The catalogue's tables as records: hosts, accelerators, drives, links, and the machines made of
them.

The tables lie in `data/` and every row names its source and how far it can be trusted. Peak rates
are the maker's, measured ones somebody's. Nothing is converted here; read `rates.py` next.
"""

import csv
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, TypeVar, cast

from outsize.quantities import parse_bytes

Confidence = Literal["high", "medium", "low"]
Entry = TypeVar("Entry", "ProcessorEntry", "DriveEntry", "LinkEntry", "MachineEntry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where the numbers of a row are from.

    Attributes:
        confidence: `high` for measured or specified numbers that agree, `low` for derived or
            remembered ones.
        source: who says so.
        comment: what else is to be known; empty when nothing is.
    """

    confidence: Confidence
    source: str
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorEntry:
    """A row of `hosts.csv` or `accelerators.csv`; for each rate, the peak or the measured one is
    there.

    Attributes:
        name: of the row.
        num_cores: cores of a host; None for an accelerator.
        memory_bytes: memory of an accelerator as its driver shows it; None for a host.
        memory_type: kind of memory.
        peak_memory_bytes_per_s: channel width times rate; None when not known.
        measured_memory_bytes_per_s: of a copy, reads and writes counted; None when not known.
        peak_bf16_flops_per_s: dense, with float32 sums; None when not known, or when the part has
            no instructions for it.
        measured_bf16_matmul_flops_per_s: of large products in PyTorch; None when not known.
        peak_fp32_flops_per_s: without TF32; None when not known.
        measured_fp32_matmul_flops_per_s: of large products in PyTorch; None when not known.
        link: the accelerator's own link to its host; None for a host.
        provenance: where the numbers are from.
    """

    name: str
    num_cores: int | None
    memory_bytes: int | None
    memory_type: str
    peak_memory_bytes_per_s: float | None
    measured_memory_bytes_per_s: float | None
    peak_bf16_flops_per_s: float | None
    measured_bf16_matmul_flops_per_s: float | None
    peak_fp32_flops_per_s: float | None
    measured_fp32_matmul_flops_per_s: float | None
    link: str | None
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveEntry:
    """A row of `drives.csv`.

    Attributes:
        name: of the row.
        capacity_bytes: what it holds.
        read_bytes_per_s: of large reads, sustained.
        write_bytes_per_s: of large writes, sustained: when the drive's cache is full.
        endurance_bytes: what may be written in its life; None when not known.
        provenance: where the numbers are from.
    """

    name: str
    capacity_bytes: int
    read_bytes_per_s: float
    write_bytes_per_s: float
    endurance_bytes: int | None
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEntry:
    """A row of `links.csv`: host memory to device.

    Attributes:
        name: of the row.
        peak_bytes_per_s: each way, by its specification.
        measured_to_device_bytes_per_s: of large copies from pinned memory; None when not known.
        measured_from_device_bytes_per_s: likewise, back.
        provenance: where the numbers are from.
    """

    name: str
    peak_bytes_per_s: float
    measured_to_device_bytes_per_s: float | None
    measured_from_device_bytes_per_s: float | None
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineEntry:
    """A table of `machines.toml`.

    Attributes:
        name: of the table.
        summary: what it is, in a few words.
        host: row of `hosts.csv`.
        memory_bytes: main memory that is built in.
        drive: row of `drives.csv`.
        accelerator: row of `accelerators.csv`; None without one.
        link: row of `links.csv`; None without an accelerator.
    """

    name: str
    summary: str
    host: str
    memory_bytes: int
    drive: str
    accelerator: str | None
    link: str | None


@cache
def hosts() -> dict[str, ProcessorEntry]:
    """Return the hosts by name."""
    return _by_name(_processor(row) for row in _rows("hosts.csv"))


@cache
def accelerators() -> dict[str, ProcessorEntry]:
    """Return the accelerators by name."""
    return _by_name(_processor(row) for row in _rows("accelerators.csv"))


@cache
def drives() -> dict[str, DriveEntry]:
    """Return the drives by name."""
    return _by_name(_drive(row) for row in _rows("drives.csv"))


@cache
def links() -> dict[str, LinkEntry]:
    """Return the links by name."""
    return _by_name(_link(row) for row in _rows("links.csv"))


@cache
def machines() -> dict[str, MachineEntry]:
    """Return the machines by name, in the order of the file."""
    tables = tomllib.loads(_text("machines.toml"))
    return _by_name(_machine(name, table) for name, table in tables.items())


def _text(file: str) -> str:
    return (resources.files("outsize.machines") / "data" / file).read_text(encoding="utf-8")


def _rows(file: str) -> "csv.DictReader[str]":
    return csv.DictReader(_text(file).splitlines())


def _by_name(entries: Iterable[Entry]) -> dict[str, Entry]:
    listed = tuple(entries)
    found = {entry.name: entry for entry in listed}
    assert len(found) == len(listed), "two entries have one name"
    return found


def _processor(row: Mapping[str, str]) -> ProcessorEntry:
    return ProcessorEntry(
        name=row["name"],
        num_cores=_integer(row.get("num_cores", "")),
        memory_bytes=_integer(row.get("memory_bytes", "")),
        memory_type=row["memory_type"],
        peak_memory_bytes_per_s=_number(row["peak_memory_bytes_per_s"]),
        measured_memory_bytes_per_s=_number(row["measured_memory_bytes_per_s"]),
        peak_bf16_flops_per_s=_number(row["peak_bf16_flops_per_s"]),
        measured_bf16_matmul_flops_per_s=_number(row["measured_bf16_matmul_flops_per_s"]),
        peak_fp32_flops_per_s=_number(row["peak_fp32_flops_per_s"]),
        measured_fp32_matmul_flops_per_s=_number(row["measured_fp32_matmul_flops_per_s"]),
        link=row.get("link") or None,
        provenance=_provenance(row),
    )


def _drive(row: Mapping[str, str]) -> DriveEntry:
    return DriveEntry(
        name=row["name"],
        capacity_bytes=int(float(row["capacity_bytes"])),
        read_bytes_per_s=float(row["read_bytes_per_s"]),
        write_bytes_per_s=float(row["write_bytes_per_s"]),
        endurance_bytes=_integer(row["endurance_bytes"]),
        provenance=_provenance(row),
    )


def _link(row: Mapping[str, str]) -> LinkEntry:
    return LinkEntry(
        name=row["name"],
        peak_bytes_per_s=float(row["peak_bytes_per_s"]),
        measured_to_device_bytes_per_s=_number(row["measured_to_device_bytes_per_s"]),
        measured_from_device_bytes_per_s=_number(row["measured_from_device_bytes_per_s"]),
        provenance=_provenance(row),
    )


def _machine(name: str, table: Mapping[str, str]) -> MachineEntry:
    accelerator = table.get("accelerator")
    own_link = accelerators()[accelerator].link if accelerator else None
    return MachineEntry(
        name=name,
        summary=table["summary"],
        host=table["host"],
        memory_bytes=parse_bytes(table["memory"]),
        drive=table["drive"],
        accelerator=accelerator,
        link=table.get("link", own_link),
    )


def _provenance(row: Mapping[str, str]) -> Provenance:
    confidence = row["confidence"]
    assert confidence in ("high", "medium", "low"), f"{row['name']} has no confidence"
    return Provenance(
        confidence=cast(Confidence, confidence), source=row["source"], comment=row["comment"]
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def _integer(text: str) -> int | None:
    return int(float(text)) if text else None
