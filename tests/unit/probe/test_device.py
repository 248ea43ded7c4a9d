from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_sizes import HOST

from outsize.machines.records import from_json, to_json
from outsize.probe import device
from outsize.probe.device import CudaDevice, accelerator, measure_device
from outsize.spec.machine import Accelerator


class FakeDevice:
    """The CPU in the part of a GPU."""

    name = "Big\x1b GPU"
    count = 2
    memory_bytes = 2**33
    free_bytes = 2**22
    num_parts = 4
    torch_device = torch.device("cpu")

    def __init__(self) -> None:
        self.num_waits = 0
        self.pinned_bytes = 0

    def wait(self) -> None:
        self.num_waits += 1

    def pinned(self, num_bytes: int) -> torch.Tensor:
        self.pinned_bytes += num_bytes
        return torch.empty(num_bytes, dtype=torch.uint8)


def test_a_device_is_measured_with_its_link() -> None:
    fake = FakeDevice()
    found = accelerator(fake, replace(HOST, working_bytes=2**30))
    assert (found.processor.name, found.count) == ("Big GPU", 2)
    assert (found.processor.num_cores, found.processor.memory_bytes) == (None, 2**33)
    assert {rate.dtype for rate in found.processor.matmul} == {"bfloat16", "float32"}
    assert len(found.processor.attention) == 4
    assert min(found.to_device_bytes_per_s, found.from_device_bytes_per_s) > 0
    assert from_json(Accelerator, to_json(found)) == found


def test_every_time_waits_for_the_device_and_a_quarter_of_its_memory_is_taken() -> None:
    fake = FakeDevice()
    accelerator(fake, HOST)
    assert fake.num_waits > 2 * 8
    assert fake.pinned_bytes <= fake.free_bytes // 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_accelerator() -> None:
    found = measure_device(to_json(HOST))
    assert found == {"accelerator": None, "problem": "PyTorch sees no GPU"}


def test_a_gpu_that_fails_is_a_problem_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "accelerator", fail)
    found = measure_device(to_json(HOST))
    assert found == {"accelerator": None, "problem": "CUDA out of memory."}


def test_cuda_is_asked_by_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = type("Properties", (), {"total_memory": 2**37, "multi_processor_count": 132})
    waited: list[Any] = []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**36, 2**37))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    cuda = CudaDevice()
    cuda.wait()
    assert waited == [torch.device("cuda", 0)]
    assert (cuda.name, cuda.count) == ("GPU cuda:0", 8)
    assert (cuda.memory_bytes, cuda.free_bytes, cuda.num_parts) == (2**37, 2**36, 132)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_real_gpu_is_measured() -> None:
    found = from_json(Accelerator, measure_device(to_json(HOST))["accelerator"])
    assert found.processor.memory_bytes > 2**30
