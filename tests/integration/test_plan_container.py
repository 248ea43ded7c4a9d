"""The default budget follows a real container: memory control groups of version 1, nested too."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import outsize
from tiny_llama import CONFIG

MIB = 2**20
ROOT = Path("/sys/fs/cgroup/memory")


def _own_group() -> Path | None:
    """The memory group of this process, where groups can be made below it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            group = ROOT / path.lstrip("/")
            group = group if group.is_dir() else ROOT
            is_usable = os.geteuid() == 0 and os.access(group, os.W_OK)
            return group if is_usable and (group / "memory.limit_in_bytes").exists() else None
    return None


pytestmark = pytest.mark.skipif(
    _own_group() is None, reason="no right to make memory control groups of version 1"
)


@pytest.fixture
def group() -> Iterator[Path]:
    """A group with a child, both without a limit yet."""
    own = _own_group()
    assert own is not None
    outer = own / f"outsize-tests-{os.getpid()}"
    try:
        (outer / "inner").mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"a memory control group cannot be made: {error}")
    yield outer
    for folder in (outer / "inner", outer):
        folder.rmdir()


def plan_in(group: Path, folder: Path) -> tuple[int, dict[str, Any]]:
    """Plan in a process of the group; return what is free in the group then, and the result."""
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps(CONFIG))
    environment = os.environ | {"PYTHONPATH": str(Path(outsize.__file__).parents[1])}
    free = "from outsize.store.budget import host_limits; print(host_limits().free_bytes)"
    enter = f'echo $$ > "{group}/cgroup.procs"'
    verb = f'"{sys.executable}" -m outsize plan train model --max-seq-length 64'
    done = subprocess.run(
        ["sh", "-ec", f'{enter}; "{sys.executable}" -c "{free}"; {verb}'],
        capture_output=True, text=True, env=environment, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, body = done.stdout.splitlines()
    return int(before), json.loads(body)


def limit(group: Path, limit_bytes: int) -> None:
    (group / "memory.limit_in_bytes").write_text(str(limit_bytes))


@pytest.mark.parametrize("outer_mib", [None, 700])
def test_the_budget_is_what_the_tightest_group_has_free(
    group: Path, tmp_path: Path, outer_mib: int | None
) -> None:
    """A limit of its own; and a looser one inside a tighter one, which does not widen it."""
    tightest = (600 if outer_mib is None else outer_mib) * MIB
    if outer_mib is not None:
        limit(group, outer_mib * MIB)
    inner = 600 if outer_mib is None else 2 * outer_mib
    limit(group / "inner", inner * MIB)
    free_bytes, body = plan_in(group / "inner", tmp_path)
    budget_bytes = body["budget_bytes"]["host"]
    assert 0.8 * free_bytes <= budget_bytes <= tightest
    assert 0.7 * tightest < free_bytes <= tightest
    assert body["predicted_peak_bytes"]["host"] <= budget_bytes


def test_a_container_too_small_for_the_libraries_is_refused(group: Path, tmp_path: Path) -> None:
    limit(group, 200 * MIB)
    with pytest.raises(AssertionError, match=r"needs 400 MiB on host; the budget is 1\d\d MiB"):
        plan_in(group / "inner", tmp_path)
