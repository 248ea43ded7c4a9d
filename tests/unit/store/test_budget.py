"""What the kernel says is free, on made-up /proc and /sys/fs/cgroup trees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from outsize.store.budget import (
    HostLimits,
    ResidentBytes,
    host_limits,
    peak_children_bytes,
    peak_resident_bytes,
    resident_bytes,
)

GIB = 2**30


class Machine:
    """A fake machine with 8 GiB free."""

    def __init__(self, folder: Path, groups: str) -> None:
        self.proc, self.cgroup = folder / "proc", folder / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.cgroup.mkdir()
        (self.proc / "meminfo").write_text(
            "MemTotal: 16777216 kB\nMemFree: 1024 kB\nMemAvailable: 8388608 kB\n"
        )
        (self.proc / "self/cgroup").write_text(groups)

    def group(self, path: str, **files: object) -> Path:
        """Make a group; `memory_max` becomes the file `memory.max`."""
        folder = self.cgroup / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")
        return folder

    def limits(self) -> HostLimits:
        return host_limits(self.proc, self.cgroup)


@pytest.fixture
def machine(tmp_path):
    return lambda groups: Machine(tmp_path, groups)


def test_without_groups_the_machine_decides(machine):
    found = machine("").limits()
    assert found == HostLimits(free_bytes=8 * GIB, limit_bytes=None, source="machine")


def test_version_2_limits_what_is_free(machine):
    made = machine("0::/app\n")
    group = made.group("app", memory_max=3 * GIB, memory_current=GIB)
    expected = HostLimits(free_bytes=2 * GIB, limit_bytes=3 * GIB, source=str(group))
    assert made.limits() == expected


def test_cache_that_can_go_is_free(machine):
    made = machine("0::/app\n")
    made.group(
        "app",
        memory_max=3 * GIB,
        memory_current=2 * GIB,
        memory_stat=f"anon 5\ninactive_anon 7\ninactive_file {GIB}\nactive_file 9",
    )
    assert made.limits().free_bytes == 2 * GIB


def test_the_tightest_of_nested_groups_counts(machine):
    made = machine("0::/pod/app/worker\n")
    made.group("", memory_max="max")
    made.group("pod", memory_max=2 * GIB, memory_current=GIB)
    made.group("pod/app", memory_max=4 * GIB, memory_current=0)
    made.group("pod/app/worker", memory_max="max", memory_current=0)
    found = made.limits()
    assert (found.free_bytes, found.limit_bytes) == (GIB, 2 * GIB)
    assert found.source == str(made.cgroup / "pod")


def test_the_smallest_limit_and_the_least_free_may_be_of_two_groups(machine):
    made = machine("0::/outer/inner\n")
    made.group("outer", memory_max=6 * GIB, memory_current=5 * GIB)
    made.group("outer/inner", memory_max=4 * GIB, memory_current=GIB)
    found = made.limits()
    assert (found.free_bytes, found.limit_bytes) == (GIB, 4 * GIB)
    assert found.source == str(made.cgroup / "outer")


def test_a_childs_looser_limit_does_not_widen_its_parents(machine):
    made = machine("0::/outer/inner\n")
    outer = made.group("outer", memory_max=2 * GIB, memory_current=GIB)
    made.group("outer/inner", memory_max=6 * GIB, memory_current=GIB // 2)
    expected = HostLimits(free_bytes=GIB, limit_bytes=2 * GIB, source=str(outer))
    assert made.limits() == expected


def test_version_1_is_nested_too(machine):
    made = machine("5:memory:/outer/inner\n")
    outer = made.group("memory/outer", memory_limit_in_bytes=2 * GIB, memory_usage_in_bytes=GIB)
    made.group("memory/outer/inner", memory_limit_in_bytes=6 * GIB, memory_usage_in_bytes=GIB // 2)
    expected = HostLimits(free_bytes=GIB, limit_bytes=2 * GIB, source=str(outer))
    assert made.limits() == expected


@pytest.mark.parametrize(("high", "limit"), [(GIB, GIB), (4 * GIB, 3 * GIB), ("max", 3 * GIB)])
def test_a_group_is_not_filled_beyond_where_the_kernel_slows_it_down(machine, high, limit):
    """Above `memory.high` a process is not killed, but it is held up by reclaim."""
    made = machine("0::/app\n")
    made.group("app", memory_max=3 * GIB, memory_high=high, memory_current=GIB // 2)
    found = made.limits()
    assert (found.free_bytes, found.limit_bytes) == (limit - GIB // 2, limit)


def test_a_group_may_have_a_high_mark_alone(machine):
    made = machine("0::/app/worker\n")
    app = made.group("app", memory_max="max", memory_high=2 * GIB, memory_current=GIB)
    made.group("app/worker", memory_max="max", memory_high="max", memory_current=GIB)
    expected = HostLimits(free_bytes=GIB, limit_bytes=2 * GIB, source=str(app))
    assert made.limits() == expected


def test_the_machine_may_be_tighter_than_the_group(machine):
    made = machine("0::/app\n")
    made.group("app", memory_max=12 * GIB, memory_current=0)
    found = made.limits()
    assert found == HostLimits(free_bytes=8 * GIB, limit_bytes=12 * GIB, source="machine")


def test_version_1_has_files_of_its_own(machine):
    made = machine("12:cpu,cpuacct:/x\n5:memory:/docker/abc\n1:name=systemd:/init\n")
    group = made.group(
        "memory/docker/abc",
        memory_limit_in_bytes=2 * GIB,
        memory_usage_in_bytes=GIB,
        memory_stat=f"inactive_file 3\ntotal_inactive_file {GIB // 2}",
    )
    made.group("memory", memory_limit_in_bytes=2**63 - 4096, memory_usage_in_bytes=9 * GIB)
    found = made.limits()
    assert found == HostLimits(free_bytes=3 * GIB // 2, limit_bytes=2 * GIB, source=str(group))


def test_version_1_without_a_limit_is_unlimited(machine):
    made = machine("5:memory:/app\n")
    made.group("memory/app", memory_limit_in_bytes=2**63 - 4096, memory_usage_in_bytes=GIB)
    assert made.limits() == HostLimits(free_bytes=8 * GIB, limit_bytes=None, source="machine")


def test_version_2_without_a_limit_is_unlimited(machine):
    made = machine("0::/app\n")
    made.group("app", memory_max="max", memory_current=GIB)
    assert made.limits().limit_bytes is None


def test_on_a_hybrid_machine_the_memory_controller_is_version_1(machine):
    made = machine("5:memory:/app\n0::/app\n")
    made.group("unified/app", cgroup_procs="1")
    made.group("memory/app", memory_limit_in_bytes=GIB, memory_usage_in_bytes=0)
    assert made.limits().limit_bytes == GIB


def test_on_a_hybrid_machine_version_2_may_hold_the_memory(machine):
    made = machine("5:cpu:/app\n0::/app\n")
    made.group("unified/app", memory_max=GIB, memory_current=0)
    assert made.limits().limit_bytes == GIB


@pytest.mark.parametrize("line", ["0::/kubepods/pod1/abc\n", "0::/../../elsewhere\n"])
def test_in_a_container_whose_path_is_the_hosts_its_root_counts(machine, line):
    made = machine(line)
    made.group("", memory_max=GIB, memory_current=GIB // 4)
    found = made.limits()
    assert (found.free_bytes, found.limit_bytes) == (3 * GIB // 4, GIB)


def test_in_a_container_of_version_1_its_root_counts(machine):
    made = machine("5:memory:/docker/abc\n")
    made.group("memory", memory_limit_in_bytes=GIB, memory_usage_in_bytes=0)
    assert made.limits().limit_bytes == GIB


def test_a_group_that_is_over_its_limit_has_nothing_free(machine):
    made = machine("0::/app\n")
    made.group("app", memory_max=GIB, memory_current=2 * GIB)
    assert made.limits().free_bytes == 0


def test_a_limit_without_a_usage_is_all_free(machine):
    made = machine("0::/app\n")
    made.group("app", memory_max=GIB)
    assert made.limits().free_bytes == GIB


def test_without_proc_the_system_is_asked(tmp_path):
    found = host_limits(tmp_path / "none", tmp_path / "none")
    assert found.free_bytes > 0
    assert (found.limit_bytes, found.source) == (None, "machine")


def test_the_process_is_read_from_its_status(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text("Name: x\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
    assert resident_bytes(tmp_path) == 2**20
    assert peak_resident_bytes(tmp_path) == 2 * 2**20


def test_the_status_is_read_again_and_again(tmp_path):
    (tmp_path / "self").mkdir()
    status = tmp_path / "self/status"
    status.write_text("Name: VmRSS:\nVmRSS:\t  1024 kB\nThreads: 1\n")
    resident = ResidentBytes(tmp_path)
    assert resident.read() == resident.read() == 2**20
    status.write_text("Name: VmRSS:\nVmRSS:\t  4096 kB\nThreads: 1\n")
    assert resident.read() == 2**22
    status.write_text("Name: x\n")
    assert resident.read() > 2**20
    assert ResidentBytes(tmp_path / "none").read() > 2**20


def test_without_a_status_the_peak_stands_in(tmp_path):
    assert resident_bytes(tmp_path) == peak_resident_bytes(tmp_path) > 2**20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_this_process_has_a_size():
    assert 2**20 < resident_bytes() <= peak_resident_bytes()
    assert peak_resident_bytes() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_peak_of_a_child_is_known_after_its_end():
    program = "block = bytearray(256 * 2**20); block[::4096] = b'x' * len(block[::4096])"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert peak_children_bytes() > 256 * 2**20
