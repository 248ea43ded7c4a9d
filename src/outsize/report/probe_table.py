"""What `outsize probe` prints: the rates as small tables, the limits, and where they are kept."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from outsize.probe.limits import ProcessLimits
from outsize.probe.result import ProbeResult
from outsize.quantities import format_bytes, format_rate, format_seconds
from outsize.report.terminal import rows_table
from outsize.spec.machine import AttentionRate, Disk, MachineProfile, MatmulRate, Processor

_TERA = 1e13
"""From here on operations are counted in TFLOP/s."""


def show_probe(console: Console, result: ProbeResult) -> None:
    """Print the machine, its rates by dtype and size, its limits, and where the profile is."""
    profile = result.profile
    console.print()
    console.print(rows_table(tuple(_machine(profile)), console.width))
    _show_processor(console, "", profile.host)
    if profile.accelerator is not None:
        device = profile.accelerator.processor
        _show_processor(console, f"{device.name}, ", device)
    _show(console, f"{profile.disk.name}, by transfer size", _disk_table(profile.disk))
    console.print()
    console.print(rows_table(tuple(_limits(result.limits, result)), console.width))


def _machine(profile: MachineProfile) -> Iterable[tuple[str, str]]:
    host, accelerator = profile.host, profile.accelerator
    yield "machine", profile.name
    yield "is", profile.fingerprint or host.name
    yield "memory", f"{format_rate(host.memory_bytes_per_s)} in one pass"
    yield "elementwise", f"{format_rate(host.elementwise_bytes_per_s)} read and written"
    yield "libraries", format_bytes(profile.baseline_bytes)
    lost = profile.compute_loss_s_per_byte * 1e12
    yield "transfers", f"cost {lost:.3g} ms of arithmetic for each GB read or written"
    if accelerator is None:
        yield "device", "none"
        return
    device = accelerator.processor
    yield "device", f"{accelerator.count} x {device.name}, {format_bytes(device.memory_bytes)}"
    yield (
        "link",
        (
            f"{format_rate(accelerator.to_device_bytes_per_s)} to the device, "
            f"{format_rate(accelerator.from_device_bytes_per_s)} back"
        ),
    )


def _show_processor(console: Console, name: str, processor: Processor) -> None:
    rates, attention = processor.matmul, processor.attention
    unit, scale = _unit([rate.flops_per_s for rate in rates])
    _show(console, f"{name}matrix products, {unit} by rows", _matmul_table(rates, scale))
    if not attention:
        return
    unit, scale = _unit([r.forward_flops_per_s for r in attention])
    title = f"{name}causal attention, {unit} by sequence length"
    _show(console, title, _attention_table(attention, scale))


def _show(console: Console, title: str, table: Table) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    console.print(table)


def _matmul_table(rates: Sequence[MatmulRate], scale: float) -> Table:
    columns = sorted({rate.rows for rate in rates})
    table = _table(map(str, columns))
    found = {(r.dtype, r.inner, r.columns, r.rows): r.flops_per_s / scale for r in rates}
    for dtype, inner, width in dict.fromkeys((r.dtype, r.inner, r.columns) for r in rates):
        cells = [found.get((dtype, inner, width, rows)) for rows in columns]
        table.add_row(f"{dtype:<8}  {inner} to {width}", *map(_number, cells))
    return table


def _attention_table(rates: Sequence[AttentionRate], scale: float) -> Table:
    columns = sorted({rate.seq_length for rate in rates})
    table = _table(map(str, columns))
    found = {(r.dtype, r.head_size, r.seq_length): r for r in rates}
    for dtype, head_size in dict.fromkeys((r.dtype, r.head_size) for r in rates):
        row = [found.get((dtype, head_size, length)) for length in columns]
        forward = ["" if r is None else _number(r.forward_flops_per_s / scale) for r in row]
        backward = ["" if r is None else _number(r.backward_flops_per_s / scale) for r in row]
        table.add_row(f"{dtype:<8}  head {head_size:<3}  forward", *forward)
        table.add_row(f"{'':<8}  {'':<8}  backward", *backward)
    return table


def _disk_table(disk: Disk) -> Table:
    sizes = [format_bytes(block.block_bytes) for block in disk.blocks]
    table = _table([*sizes, "both ways"])
    reads = [format_rate(block.read_bytes_per_s) for block in disk.blocks]
    writes = [format_rate(block.write_bytes_per_s) for block in disk.blocks]
    table.add_row("read", *reads, format_rate(disk.read_beside_write_bytes_per_s))
    table.add_row("write", *writes, format_rate(disk.write_beside_read_bytes_per_s))
    return table


def _limits(limits: ProcessLimits, result: ProbeResult) -> Iterable[tuple[str, str]]:
    tightest = limits.memory_bytes
    container = "no limit" if tightest is None else f"limit {format_bytes(tightest)}"
    yield "container", f"{container}, {format_bytes(limits.memory_free_bytes)} of memory free"
    free = format_bytes(result.profile.disk.free_bytes)
    yield "disk", f"{free} free, direct I/O {'works' if result.direct_io else 'does not work'}"
    yield "ulimits", ", ".join(_ulimits(limits))
    moved = format_bytes(result.bytes_read), format_bytes(result.bytes_written)
    yield "probe", f"{format_seconds(result.seconds)}, {moved[0]} read, {moved[1]} written"
    yield "saved in", result.output


def _ulimits(limits: ProcessLimits) -> Iterable[str]:
    yield f"mapped {_size(limits.address_space_bytes)}"
    yield f"locked {_size(limits.locked_bytes)}"
    yield f"one file {_size(limits.file_bytes)}"
    yield f"open files {'unlimited' if limits.num_files is None else f'{limits.num_files:,}'}"


def _size(num_bytes: int | None) -> str:
    return "unlimited" if num_bytes is None else format_bytes(num_bytes)


def _unit(rates: Sequence[float]) -> tuple[str, float]:
    return ("TFLOP/s", 1e12) if max(rates) >= _TERA else ("GFLOP/s", 1e9)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def _table(headings: Iterable[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True, style="dim")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
