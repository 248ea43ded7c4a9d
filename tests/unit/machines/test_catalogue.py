import json
from pathlib import Path

import pytest
from made_profiles import PROFILE

from outsize.errors import MachineError, UsageError
from outsize.machines import entries
from outsize.machines.catalogue import (
    catalogue_machine,
    catalogue_sources,
    find_machine,
    machine_names,
)
from outsize.machines.listing import describe_machine, list_machines
from outsize.machines.profile_file import load_profile, save_profile
from outsize.spec.machine import MachineProfile, Processor

_MACHINES = {name: catalogue_machine(name) for name in machine_names()}


def _fastest(processor: Processor) -> float:
    return max(rate.flops_per_s for rate in processor.matmul)


def test_the_catalogue_has_the_machines_that_people_have() -> None:
    expected = {
        "laptop",
        "laptop-8gb",
        "desktop",
        "raspberry-pi-5",
        "workstation-24gb",
        "server-80gb",
        "server-141gb",
        "cloud-t4",
        "cloud-cpu-16",
    }
    assert expected <= set(machine_names())
    assert len(machine_names()) > 20


def test_a_machine_is_what_its_name_says() -> None:
    gpu = {"workstation-24gb": 24, "server-80gb": 80, "server-141gb": 141, "desktop-12gb": 12}
    for name, size in gpu.items():
        device = _MACHINES[name].accelerator
        assert device is not None
        assert 0.97 * size < device.processor.memory_bytes / 2**30 <= size
    built_in = {name: machine.memory_bytes for name, machine in entries.machines().items()}
    assert built_in["laptop"] == 16 * 2**30
    assert built_in["workstation-24gb"] == 64 * 2**30
    assert built_in["server-80gb"] == 512 * 2**30
    assert built_in["server-141gb"] == 1024 * 2**30
    assert _MACHINES["laptop"].host.num_cores == 8


@pytest.mark.parametrize("machine", _MACHINES.values(), ids=list(_MACHINES))
def test_every_machine_is_sane(machine: MachineProfile, tmp_path: Path) -> None:
    assert machine.fingerprint is None
    assert machine.measured_at is None
    disk = machine.disk
    assert 0 < disk.read_beside_write_bytes_per_s < disk.read_bytes_per_s
    assert 0 < disk.write_beside_read_bytes_per_s < disk.write_bytes_per_s
    assert disk.free_bytes > 2**34
    assert disk.read_bytes_per_s < machine.host.memory_bytes_per_s
    assert machine.baseline_bytes < machine.host.memory_bytes
    assert 0 < machine.compute_loss_s_per_byte < 1e-9
    save_profile(machine, tmp_path / "m.json")
    assert load_profile(tmp_path / "m.json") == machine


@pytest.mark.parametrize(
    "machine",
    [m for m in _MACHINES.values() if m.accelerator],
    ids=[n for n, m in _MACHINES.items() if m.accelerator],
)
def test_a_device_outruns_its_host(machine: MachineProfile) -> None:
    device = machine.accelerator
    assert device is not None
    assert _fastest(device.processor) > 2 * _fastest(machine.host)
    assert device.processor.memory_bytes_per_s > 2 * machine.host.memory_bytes_per_s
    assert device.to_device_bytes_per_s < 2 * machine.host.memory_bytes_per_s
    assert device.from_device_bytes_per_s < 2 * machine.host.memory_bytes_per_s
    assert machine.baseline_bytes > 2**30


def test_newer_and_larger_is_faster() -> None:
    names = ("desktop-12gb", "workstation-24gb", "server-80gb-a100", "server-80gb", "server-180gb")
    devices = [_MACHINES[name].accelerator for name in names]
    speeds = [_fastest(device.processor) for device in devices if device]
    assert speeds == sorted(speeds)
    assert len(speeds) == len(names)


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError) as refused:
        catalogue_machine("labtop")
    message = str(refused.value)
    assert message.startswith("There is no machine 'labtop'. Did you mean laptop?\n")
    assert "The catalogue has laptop, laptop-8gb," in message
    assert "`outsize probe`" in message


def test_a_machine_is_found_by_name_or_by_file(tmp_path: Path) -> None:
    assert find_machine("desktop") == _MACHINES["desktop"]
    path = tmp_path / "elsewhere"
    save_profile(PROFILE, path)
    assert find_machine(str(path)) == PROFILE
    with pytest.raises(MachineError, match=r"missing\.json"):
        find_machine(str(tmp_path / "missing.json"))
    with pytest.raises(UsageError, match="There is no machine"):
        find_machine(str(tmp_path / "missing"))


def test_a_name_that_no_file_can_have_is_no_machine() -> None:
    for name in ("x" * 300, "~no-such-user/x"):
        with pytest.raises(UsageError, match="There is no machine"):
            find_machine(name)
    with pytest.raises(MachineError, match="cannot be read: File name too long"):
        describe_machine("x" * 300 + ".json")


def test_a_profile_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_profile(PROFILE, tmp_path / "elsewhere")
    assert find_machine("~/elsewhere") == PROFILE


def test_every_part_of_a_machine_has_its_source() -> None:
    parts = [part for part, _ in catalogue_sources("workstation-24gb")]
    assert parts == ["Ryzen-9-7950X", "NVMe-Gen4-2TB", "RTX-4090", "PCIe4-x16"]
    assert len(catalogue_sources("laptop")) == 2


def test_the_list_is_in_short_and_one_machine_in_full(tmp_path: Path) -> None:
    listed = list_machines()
    assert [row.name for row in listed.machines] == list(machine_names())
    assert listed.profile is None
    one = describe_machine("server-80gb")
    assert one.profile == _MACHINES["server-80gb"]
    assert one.machines == tuple(row for row in listed.machines if row.name == "server-80gb")
    assert len(one.sources) == 4
    body = json.loads(json.dumps(one.to_json()))
    assert body["command"] == "machines"
    assert body["machines"][0]["link"] == "PCIe5-x16"
    assert body["profile"]["host"]["name"] == "Xeon-8480"
    path = tmp_path / "here.json"
    save_profile(PROFILE, path)
    measured = describe_machine(str(path))
    assert measured.sources == ()
    assert measured.machines[0].summary is None
