import io
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

sys.path.append(str(Path(__file__).parents[1] / "machines"))
from made_profiles import GPU, HOST, PROFILE

from outsize.probe.limits import ProcessLimits
from outsize.probe.result import ProbeResult
from outsize.report.probe_table import show_probe
from outsize.results import TierBytes
from outsize.spec.machine import MatmulRate

_LIMITS = ProcessLimits(
    machine_memory_bytes=24 * 2**30,
    memory_bytes=2**30,
    memory_free_bytes=2**29,
    memory_source="a/group",
    address_space_bytes=None,
    locked_bytes=8 * 2**20,
    file_bytes=None,
    num_files=20000,
)
_RESULT = ProbeResult(
    profile=PROFILE,
    limits=_LIMITS,
    folder="/runs",
    direct_io=True,
    output="/home/[me]/machine.json",
    measured_peak_bytes=TierBytes(host=2**28, disk=2**28),
    bytes_read=2**32,
    bytes_written=2**33,
    seconds=31.5,
)


def _lines(result: ProbeResult) -> list[str]:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    show_probe(console, result)
    text = console.file.getvalue()
    return [line.rstrip() for line in text.splitlines()]


def test_the_rates_stand_in_small_tables() -> None:
    assert _lines(_RESULT) == [
        "",
        "machine      desk",
        "is           Fast One, 2 cores, 24 GiB, torch 2.13.0",
        "memory       45.0 GB/s in one pass",
        "elementwise  9.00 GB/s read and written",
        "libraries    263 MiB",
        "transfers    cost 10 ms of arithmetic for each GB read or written",
        "device       none",
        "",
        "matrix products, GFLOP/s by rows",
        "                         1  4096",
        "float32   576 to 1536  9.0",
        "bfloat16  576 to 1536   18   970",
        "",
        "causal attention, GFLOP/s by sequence length",
        "                              1024",
        "bfloat16  head 64   forward    300",
        "                    backward   100",
        "",
        "ext4 on /dev/vda, by transfer size",
        "       64.0 KiB   16.0 MiB  both ways",
        "read   400 MB/s  1.35 GB/s   900 MB/s",
        "write  500 MB/s  2.20 GB/s  1.10 GB/s",
        "",
        "container  limit 1.00 GiB, 512 MiB of memory free",
        "disk       80.0 GiB free, direct I/O works",
        "ulimits    mapped unlimited, locked 8.00 MiB, one file unlimited, open files 20,000",
        "probe      31.5 s, 4.00 GiB read, 8.00 GiB written",
        "saved in   /home/[me]/machine.json",
    ]


def test_a_gpu_has_its_own_tables() -> None:
    fast = MatmulRate(dtype="bfloat16", rows=4096, inner=64, columns=64, flops_per_s=7.9e14)
    gpu = replace(GPU, processor=replace(GPU.processor, matmul=(fast,), attention=()))
    lines = _lines(replace(_RESULT, profile=replace(PROFILE, accelerator=gpu, host=HOST)))
    assert "device       1 x Big GPU, 128 GiB" in lines
    assert "link         50.0 GB/s to the device, 45.0 GB/s back" in lines
    start = lines.index("Big GPU, matrix products, TFLOP/s by rows")
    assert lines[start + 2] == "bfloat16  64 to 64   790"


def test_without_limits_the_words_say_so() -> None:
    limits = replace(_LIMITS, memory_bytes=None, num_files=None, address_space_bytes=2**32)
    text = "\n".join(_lines(replace(_RESULT, limits=limits, direct_io=False)))
    assert "container  no limit, 512 MiB of memory free" in text
    assert "mapped 4.00 GiB, locked 8.00 MiB" in text
    assert "open files unlimited" in text
    assert "direct I/O does not work" in text
