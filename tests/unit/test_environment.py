import json
import os
from pathlib import Path

import pytest

from outsize.environment import PACKAGES, describe_environment


def _tool(folder: Path, body: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{body}\n")
    tool.chmod(0o755)


def test_the_machine_is_described_and_the_folder_left_clean(tmp_path: Path) -> None:
    result = describe_environment(tmp_path)
    assert set(result.versions) == set(PACKAGES)
    assert result.versions["torch"]
    assert result.memory_bytes >= result.memory_free_bytes > 0
    assert result.disk_free_bytes > 0
    assert os.listdir(tmp_path) == []
    assert json.loads(json.dumps(result.to_json()))["command"] == "env"


def test_processor_and_file_system_come_from_the_kernel(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast One\n")
    mounts = (
        "1 0 8:1 / / rw - ext4 /dev/sda rw",
        f"2 1 8:2 / {tmp_path} rw shared:1 - tmpfs none rw",
        f"3 1 8:3 / {tmp_path}-other rw - xfs none rw",
    )
    (proc / "self" / "mountinfo").write_text("\n".join(mounts))
    (proc / "meminfo").write_text("MemAvailable:  100 kB\n")
    result = describe_environment(tmp_path, proc)
    assert (result.processor, result.file_system) == ("Fast One", "tmpfs")
    assert result.memory_free_bytes == 102400


def test_devices_are_named_when_the_tool_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tool(tmp_path, "echo 'Big GPU, 81559 MiB, 550.54'")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_environment(tmp_path).devices == ("Big GPU, 81559 MiB, 550.54",)


def test_a_broken_tool_is_said_and_not_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tool(tmp_path, "exit 9")
    monkeypatch.setenv("PATH", str(tmp_path))
    (line,) = describe_environment(tmp_path).devices
    assert line.startswith("nvidia-smi failed: ")


def test_without_the_tool_there_are_no_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_environment(tmp_path).devices == ()
