import json
import resource
from dataclasses import replace

import pytest

from outsize.probe import limits
from outsize.probe.limits import process_limits
from outsize.store.budget import HostLimits


def test_the_limits_are_those_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    soft = {
        resource.RLIMIT_AS: resource.RLIM_INFINITY,
        resource.RLIMIT_MEMLOCK: 8 * 2**20,
        resource.RLIMIT_FSIZE: resource.RLIM_INFINITY,
        resource.RLIMIT_NOFILE: 1024,
    }
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft[which], 2**40))
    group = HostLimits(free_bytes=2**29, limit_bytes=2**30, source="a/group")
    monkeypatch.setattr(limits, "host_limits", lambda: group)
    found = process_limits()
    assert (found.address_space_bytes, found.file_bytes) == (None, None)
    assert (found.locked_bytes, found.num_files) == (8 * 2**20, 1024)
    assert (found.memory_bytes, found.memory_free_bytes) == (2**30, 2**29)
    assert found.usable_memory_bytes == min(2**30, found.machine_memory_bytes)
    without = replace(found, memory_bytes=None)
    assert without.usable_memory_bytes == found.machine_memory_bytes
    assert json.loads(json.dumps(found.to_json()))["memory_source"] == "a/group"
