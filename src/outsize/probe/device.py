"""Rates of a GPU and of its link to host memory.

The seam is `Device`: PyTorch's CUDA (or ROCm) in earnest, the CPU under another name in tests.
Called through `isolate.run_isolated`, since a GPU's libraries take host memory of their own.
"""

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from outsize.machines.fingerprint import printable
from outsize.machines.records import from_json, to_json
from outsize.probe.attention import attention_rates
from outsize.probe.compute import Bench, matmul_rates, memory_rate
from outsize.probe.elementwise import elementwise_rate
from outsize.probe.sizes import ComputeSizes
from outsize.probe.stopwatch import Stopwatch
from outsize.spec.machine import Accelerator, Processor

_LINK_BYTES = 64 * 2**20
"""Pinned host memory for the copies; larger ones are not faster on any link that is known."""

_WORKING_FRACTION = 0.25
"""Of the device memory that is free."""


class Device(Protocol):
    """An accelerator that PyTorch computes on."""

    @property
    def name(self) -> str:
        """What its maker calls it."""
        ...

    @property
    def count(self) -> int:
        """How many of them there are."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Its memory."""
        ...

    @property
    def free_bytes(self) -> int:
        """What of it can be taken now."""
        ...

    @property
    def num_parts(self) -> int:
        """Parts that work at the same time."""
        ...

    @property
    def torch_device(self) -> torch.device:
        """Where its tensors lie."""
        ...

    def wait(self) -> None:
        """Return when everything that was started on it is done."""
        ...

    def pinned(self, num_bytes: int) -> Tensor:
        """Return a 1-D uint8 tensor in host memory that it can reach by itself."""
        ...


class CudaDevice:
    """The first device that `torch.cuda` sees."""

    torch_device = torch.device("cuda", 0)

    @property
    def name(self) -> str:
        """See `Device`."""
        return torch.cuda.get_device_name(self.torch_device)

    @property
    def count(self) -> int:
        """See `Device`."""
        return torch.cuda.device_count()

    @property
    def memory_bytes(self) -> int:
        """See `Device`."""
        return torch.cuda.get_device_properties(self.torch_device).total_memory

    @property
    def free_bytes(self) -> int:
        """See `Device`."""
        return torch.cuda.mem_get_info(self.torch_device)[0]

    @property
    def num_parts(self) -> int:
        """See `Device`."""
        return torch.cuda.get_device_properties(self.torch_device).multi_processor_count

    def wait(self) -> None:
        """See `Device`."""
        torch.cuda.synchronize(self.torch_device)

    def pinned(self, num_bytes: int) -> Tensor:
        """See `Device`."""
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)


def measure_device(sizes: dict[str, Any]) -> dict[str, Any]:
    """Return the `accelerator`, or None and the `problem` when it cannot be measured."""
    wanted = from_json(ComputeSizes, sizes)
    if not torch.cuda.is_available():
        return {"accelerator": None, "problem": "PyTorch sees no GPU"}
    try:
        return {"accelerator": to_json(accelerator(CudaDevice(), wanted)), "problem": None}
    except RuntimeError as error:  # the driver's and the allocator's errors are of this class
        return {"accelerator": None, "problem": printable(str(error).partition("\n")[0])}


def accelerator(device: Device, sizes: ComputeSizes) -> Accelerator:
    """Measure a device.

    Raises:
        RuntimeError: the device failed or has too little memory.

    Cost: at most `working_bytes` or a quarter of what is free on the device, and 64 MiB of pinned
    host memory.
    """
    working_bytes = min(sizes.working_bytes, int(device.free_bytes * _WORKING_FRACTION))
    buffer_bytes = min(sizes.buffer_bytes, working_bytes)
    bench = Bench(
        sizes=replace(sizes, working_bytes=working_bytes, buffer_bytes=buffer_bytes),
        device=device.torch_device,
        watch=Stopwatch(device.wait),
        num_threads=device.num_parts,
    )
    to_device, from_device = _link_rates(device, bench)
    processor = Processor(
        name=printable(device.name) or "unknown device",
        num_cores=None,
        memory_bytes=device.memory_bytes,
        memory_bytes_per_s=memory_rate(bench),
        elementwise_bytes_per_s=elementwise_rate(bench),
        matmul=matmul_rates(bench),
        attention=attention_rates(bench),
    )
    return Accelerator(
        processor=processor,
        to_device_bytes_per_s=to_device,
        from_device_bytes_per_s=from_device,
        count=device.count,
    )


def _link_rates(device: Device, bench: Bench) -> tuple[float, float]:
    """Return the bytes a second of copies to the device and back."""
    host = device.pinned(min(_LINK_BYTES, bench.sizes.working_bytes))
    host.fill_(1)
    there = torch.empty_like(host, device=device.torch_device, pin_memory=False)
    to_s = bench.watch.median_s(lambda: there.copy_(host, non_blocking=True), bench.sizes.point_s)
    from_s = bench.watch.median_s(lambda: host.copy_(there, non_blocking=True), bench.sizes.point_s)
    return host.nbytes / to_s, host.nbytes / from_s
