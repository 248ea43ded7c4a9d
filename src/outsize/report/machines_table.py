"""What `outsize machines` prints: the catalogue as a table, or one machine in full."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from outsize.machines.listing import MachineRow, MachinesResult
from outsize.quantities import format_bytes, format_rate
from outsize.report.terminal import rows_table
from outsize.spec.machine import MachineProfile, MatmulRate, Processor

_HEADINGS = ("name", "processor", "memory", "drive, link", "read, to it", "write, back")


def show_machines(console: Console, result: MachinesResult) -> None:
    """Print the list, or the one machine that was asked for."""
    if result.profile is None:
        _show_list(console, result.machines)
    else:
        _show_one(console, result, result.profile)


def _show_list(console: Console, machines: Sequence[MachineRow]) -> None:
    """Print a line for each host with its drive and, below, one for its accelerator with its
    link.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in _HEADINGS:
        right = heading in ("memory", "read, to it", "write, back")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in machines:
        read, write = format_rate(row.read_bytes_per_s), format_rate(row.write_bytes_per_s)
        table.add_row(
            row.name, row.processor, format_bytes(row.memory_bytes), row.drive, read, write
        )
        if row.accelerator is not None:
            table.add_row("", row.accelerator, *_accelerator(row), style="dim")
    console.print(table)
    console.print(
        "\n`outsize machines NAME` shows one in full, with the sources of its numbers.",
        markup=False,
    )


def _accelerator(row: MachineRow) -> tuple[str, str, str, str]:
    """Return memory, link and rates of the accelerator, which is there."""
    assert row.accelerator_memory_bytes is not None
    assert row.to_device_bytes_per_s is not None
    assert row.from_device_bytes_per_s is not None
    return (
        format_bytes(row.accelerator_memory_bytes),
        row.link or "",
        format_rate(row.to_device_bytes_per_s),
        format_rate(row.from_device_bytes_per_s),
    )


def _show_one(console: Console, result: MachinesResult, profile: MachineProfile) -> None:
    summary = result.machines[0].summary
    rows = [("machine", profile.name), *([("summary", summary)] if summary else [])]
    rows += _measured(profile)
    rows += _processor("host", profile.host)
    if profile.accelerator is not None:
        rows += _processor("device", profile.accelerator.processor)
        to_device = format_rate(profile.accelerator.to_device_bytes_per_s)
        from_device = format_rate(profile.accelerator.from_device_bytes_per_s)
        rows.append(("link", f"{to_device} to the device, {from_device} back"))
    rows += _disk(profile)
    rows.append(("baseline", f"{format_bytes(profile.baseline_bytes)} of host for the libraries"))
    lost = f"{profile.compute_loss_s_per_byte * 1e12:.3g} ms"
    rows.append(("transfers", f"cost {lost} of arithmetic for each GB read or written"))
    console.print(rows_table(tuple(rows), console.width))
    _show_products(console, "host", profile.host)
    if profile.accelerator is not None:
        _show_products(console, "device", profile.accelerator.processor)
    if result.sources:
        console.print("\nsources", markup=False)
        console.print(rows_table(tuple(_source_rows(result)), console.width))


def _measured(profile: MachineProfile) -> list[tuple[str, str]]:
    if profile.measured_at is None:
        return [("measured", "no; from the catalogue")]
    return [("measured", f"{profile.measured_at}, {profile.fingerprint}")]


def _processor(label: str, processor: Processor) -> list[tuple[str, str]]:
    cores = "" if processor.num_cores is None else f", {processor.num_cores} cores"
    size, rate = processor.memory_bytes, processor.memory_bytes_per_s
    memory = f"{format_bytes(size)}, {format_rate(rate)}"
    elementwise = format_rate(processor.elementwise_bytes_per_s)
    rows = [
        (label, processor.name + cores),
        ("  memory", f"{memory}, elementwise {elementwise}"),
    ]
    for dtype in dict.fromkeys(rate.dtype for rate in processor.attention):
        rates = [rate for rate in processor.attention if rate.dtype == dtype]
        longest = max(rates, key=lambda rate: rate.seq_length)
        forward, backward = longest.forward_flops_per_s, longest.backward_flops_per_s
        rows.append(
            (
                "  attention",
                f"{dtype}, {longest.seq_length} positions: forward {_flops(forward)}, "
                f"backward {_flops(backward)}",
            )
        )
    return rows


def _disk(profile: MachineProfile) -> list[tuple[str, str]]:
    disk = profile.disk
    alone = (
        f"read {format_rate(disk.read_bytes_per_s)}, write {format_rate(disk.write_bytes_per_s)}"
    )
    read_beside = format_rate(disk.read_beside_write_bytes_per_s)
    write_beside = format_rate(disk.write_beside_read_bytes_per_s)
    endurance = "not known"
    if disk.endurance_bytes is not None:
        endurance = f"{disk.endurance_bytes / 1e12:,.0f} TB may be written in its life"
    return [
        ("drive", f"{disk.name}, {format_bytes(disk.free_bytes)} free"),
        ("  alone", alone),
        ("  together", f"read {read_beside}, write {write_beside}"),
        ("  endurance", endurance),
    ]


def _show_products(console: Console, label: str, processor: Processor) -> None:
    """Print the rates of products: a line for each size and dtype, a column for each row count."""
    row_counts = sorted({rate.rows for rate in processor.matmul})
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(f"{label}, GFLOP/s of products by rows", no_wrap=True)
    for count in row_counts:
        table.add_column(str(count), justify="right", no_wrap=True)
    for key in dict.fromkeys(_size(rate) for rate in processor.matmul):
        found = {rate.rows: rate.flops_per_s for rate in processor.matmul if _size(rate) == key}
        dtype, inner, columns = key
        cells = (f"{_three_digits(found[n] / 1e9)}" if n in found else "" for n in row_counts)
        table.add_row(f"  {dtype}, {inner} x {columns}", *cells)
    console.print()
    console.print(table)


def _size(rate: MatmulRate) -> tuple[str, int, int]:
    return rate.dtype, rate.inner, rate.columns


def _source_rows(result: MachinesResult) -> list[tuple[str, str]]:
    return [
        (
            found.part,
            f"{found.confidence} confidence: {found.source}"
            + (f"\n{found.comment}" if found.comment else ""),
        )
        for found in result.sources
    ]


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _flops(flops_per_s: float) -> str:
    """Write a rate of arithmetic with three digits: `1.02 TFLOP/s`."""
    for size, unit in ((1e12, "TFLOP/s"), (1e9, "GFLOP/s")):
        if flops_per_s >= size:
            return f"{flops_per_s / size:.3g} {unit}"
    return f"{flops_per_s / 1e6:.3g} MFLOP/s"
