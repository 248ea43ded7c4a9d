import tomllib
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path

import pytest

from outsize.machines import entries
from outsize.machines.entries import ProcessorEntry, Provenance

_ROOT = Path(__file__).parents[3]
_PROCESSORS = {**entries.hosts(), **entries.accelerators()}
_PARTS = {**_PROCESSORS, **entries.drives(), **entries.links()}


@pytest.mark.parametrize("provenance", [p.provenance for p in _PARTS.values()], ids=list(_PARTS))
def test_every_row_says_where_it_is_from(provenance: Provenance) -> None:
    assert provenance.source
    assert provenance.source == provenance.source.strip()
    assert provenance.comment == provenance.comment.strip()


def test_no_two_parts_have_one_name() -> None:
    tables = (entries.hosts(), entries.accelerators(), entries.drives(), entries.links())
    assert len(_PARTS) == sum(len(table) for table in tables)


def _pairs(entry: ProcessorEntry) -> tuple[tuple[float | None, float | None], ...]:
    return (
        (entry.peak_memory_bytes_per_s, entry.measured_memory_bytes_per_s),
        (entry.peak_bf16_flops_per_s, entry.measured_bf16_matmul_flops_per_s),
        (entry.peak_fp32_flops_per_s, entry.measured_fp32_matmul_flops_per_s),
    )


@pytest.mark.parametrize("entry", _PROCESSORS.values(), ids=list(_PROCESSORS))
def test_every_processor_has_each_rate_and_measures_below_its_peak(entry: ProcessorEntry) -> None:
    for peak, measured in _pairs(entry):
        assert peak is not None or measured is not None
        assert min(peak or 1, measured or 1) > 0
        if peak is not None and measured is not None:
            assert measured <= 1.13 * peak  # boost clocks lie above the specified ones


def test_units_are_those_of_the_column_names() -> None:
    for entry in entries.accelerators().values():
        assert entry.memory_bytes is not None
        assert 8e9 < entry.memory_bytes < 2**38
        assert 1e11 < (entry.peak_memory_bytes_per_s or 1e12) < 1e13
        assert entry.link in entries.links()
    for host in entries.hosts().values():
        assert 1 < (host.num_cores or 0) < 200
        assert 1e9 < (host.peak_memory_bytes_per_s or 1e11) < 1e12
    for drive in entries.drives().values():
        assert 1e10 < drive.capacity_bytes < 1e14
        assert 1e7 < drive.write_bytes_per_s < 1e11
        assert 1e7 < drive.read_bytes_per_s < 1e11
    for link in entries.links().values():
        assert 1e10 < link.peak_bytes_per_s < 1e12


def test_a_drive_bears_to_be_written_at_least_a_few_hundred_times() -> None:
    rated = [drive for drive in entries.drives().values() if drive.endurance_bytes is not None]
    assert len(rated) > 8
    for drive in rated:
        assert 200 < (drive.endurance_bytes or 0) / drive.capacity_bytes < 10000


def test_copies_are_slower_than_the_link() -> None:
    measured = [
        (link, rate)
        for link in entries.links().values()
        for rate in (link.measured_to_device_bytes_per_s, link.measured_from_device_bytes_per_s)
        if rate is not None
    ]
    assert len(measured) > 6
    assert [link.name for link, rate in measured if not rate < link.peak_bytes_per_s] == []


def test_known_numbers_stand_as_their_makers_give_them() -> None:
    devices, drives, links = entries.accelerators(), entries.drives(), entries.links()
    assert devices["H100-SXM-80GB"].peak_bf16_flops_per_s == 989e12
    assert devices["H100-SXM-80GB"].peak_memory_bytes_per_s == 3.35e12
    assert devices["A100-SXM-80GB"].peak_bf16_flops_per_s == 312e12
    assert devices["A100-SXM-80GB"].memory_bytes == 80 * 2**30
    assert devices["RTX-4090"].peak_bf16_flops_per_s == 165.2e12
    assert devices["RTX-4090"].peak_memory_bytes_per_s == 1008e9
    assert devices["RTX-3090"].peak_bf16_flops_per_s == 71e12
    assert devices["T4"].peak_memory_bytes_per_s == 320e9
    assert devices["T4"].peak_fp32_flops_per_s == 8.1e12
    assert devices["T4"].peak_bf16_flops_per_s is None
    assert devices["H200-SXM-141GB"].memory_bytes == 143771 * 2**20
    assert drives["NVMe-Gen4-2TB"].endurance_bytes == 1200 * 10**12
    assert drives["NVMe-Gen4-DC-7.68TB"].endurance_bytes == 5 * 365 * 7_680_000_000_000
    assert links["PCIe4-x16"].peak_bytes_per_s == pytest.approx(16e9 * 16 / 8 * 128 / 130, rel=1e-3)
    assert links["PCIe5-x16"].peak_bytes_per_s == pytest.approx(32e9 * 16 / 8 * 128 / 130, rel=1e-3)


def test_every_machine_is_made_of_parts_that_are_there() -> None:
    for machine in entries.machines().values():
        assert machine.host in entries.hosts()
        assert machine.drive in entries.drives()
        assert (machine.accelerator is None) == (machine.link is None)
        assert machine.accelerator is None or machine.accelerator in entries.accelerators()
        assert machine.link is None or machine.link in entries.links()
        assert machine.summary


def test_the_tables_are_in_the_package() -> None:
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["outsize.machines"]
    files = [f.name for f in (resources.files("outsize.machines") / "data").iterdir()]
    assert len(files) == 5
    assert [f for f in files if not any(fnmatch(f"data/{f}", p) for p in patterns)] == []
