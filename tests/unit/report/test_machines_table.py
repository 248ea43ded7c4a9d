import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

import outsize
from outsize.cli import main
from outsize.machines.listing import describe_machine, list_machines
from outsize.report.machines_table import show_machines
from outsize.report.terminal import make_console

Captured = pytest.CaptureFixture[str]


def _lines(capsys: Captured) -> Iterator[str]:
    return (line.rstrip() for line in capsys.readouterr().err.splitlines())


def test_the_list_has_a_line_for_a_host_and_one_for_its_device(capsys: Captured) -> None:
    show_machines(make_console(), list_machines())
    lines = [" ".join(line.split()) for line in _lines(capsys)]
    assert lines[0] == "name processor memory drive, link read, to it write, back"
    host = lines.index("server-80gb Xeon-8480 461 GiB NVMe-Gen4-DC-7.68TB 6.80 GB/s 5.60 GB/s")
    assert lines[host + 1] == "H100-SXM-80GB 79.6 GiB PCIe5-x16 55.4 GB/s 55.1 GB/s"
    assert not any("…" in line for line in lines)
    assert lines[-1].startswith("`outsize machines NAME` shows one in full")


def test_one_machine_is_shown_in_full(capsys: Captured) -> None:
    show_machines(make_console(), describe_machine("workstation-24gb"))
    lines = [" ".join(line.split()) for line in _lines(capsys)]
    assert "machine workstation-24gb" in lines
    assert "measured no; from the catalogue" in lines
    assert "host Ryzen-9-7950X, 16 cores" in lines
    assert "link 23.9 GB/s to the device, 26.5 GB/s back" in lines
    assert "together read 3.05 GB/s, write 875 MB/s" in lines
    assert "endurance 1,200 TB may be written in its life" in lines
    assert any(line.startswith("device, GFLOP/s of products by rows 1 16 64") for line in lines)
    assert any(line.startswith("RTX-4090 high confidence: vendor figures") for line in lines)
    assert not any("…" in line for line in lines)


def test_a_measured_machine_says_when_and_what_is_not_known(capsys: Captured) -> None:
    one = describe_machine("vm-2-core")
    assert one.profile is not None
    profile = replace(one.profile, measured_at="2026-01-02T03:04:05+00:00", fingerprint="Fast One")
    show_machines(make_console(), replace(one, profile=profile, sources=()))
    lines = [" ".join(line.split()) for line in _lines(capsys)]
    assert "measured 2026-01-02T03:04:05+00:00, Fast One" in lines
    assert "endurance not known" in lines
    assert "sources" not in lines


def test_the_verb_lists_and_describes(capsys: Captured) -> None:
    assert main(["machines"]) == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(listed["machines"]) > 20
    assert listed["profile"] is None
    assert main(["machines", "laptop"]) == 0
    one = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert one["profile"]["name"] == "laptop"
    assert {source["part"] for source in one["sources"]} == {"Ryzen-7-7840HS", "NVMe-Gen4-1TB"}
    assert main(["machines", "lap"]) == 2
    refused = capsys.readouterr()
    assert json.loads(refused.out)["error"]["kind"] == "usage"
    assert "There is no machine 'lap'." in refused.err


def test_the_function_returns_the_same() -> None:
    assert outsize.machines() == list_machines()
    assert outsize.machines("desktop") == describe_machine("desktop")
    assert outsize.machines.catalogue.machine_names()[0] == "laptop"
