"""Machine profiles for tests: one to change, and a strategy for any."""

import dataclasses
from typing import Any, get_args

from hypothesis import strategies as st

from outsize.spec.machine import (
    Accelerator,
    AttentionRate,
    BlockRate,
    Disk,
    MachineProfile,
    MatmulRate,
    Processor,
)
from outsize.spec.tensor import DType

HOST = Processor(
    name="Fast One",
    num_cores=2,
    memory_bytes=24 * 2**30,
    memory_bytes_per_s=45e9,
    elementwise_bytes_per_s=9e9,
    matmul=(
        MatmulRate(dtype="float32", rows=1, inner=576, columns=1536, flops_per_s=9e9),
        MatmulRate(dtype="bfloat16", rows=1, inner=576, columns=1536, flops_per_s=1.8e10),
        MatmulRate(dtype="bfloat16", rows=4096, inner=576, columns=1536, flops_per_s=9.7e11),
    ),
    attention=(
        AttentionRate(
            dtype="bfloat16",
            seq_length=1024,
            head_size=64,
            forward_flops_per_s=3e11,
            backward_flops_per_s=1e11,
        ),
    ),
)
DISK = Disk(
    name="ext4 on /dev/vda",
    read_bytes_per_s=1.35e9,
    write_bytes_per_s=2.2e9,
    read_beside_write_bytes_per_s=9e8,
    write_beside_read_bytes_per_s=1.1e9,
    blocks=(
        BlockRate(block_bytes=2**16, read_bytes_per_s=4e8, write_bytes_per_s=5e8),
        BlockRate(block_bytes=2**24, read_bytes_per_s=1.35e9, write_bytes_per_s=2.2e9),
    ),
    free_bytes=80 * 2**30,
    endurance_bytes=None,
)
GPU = Accelerator(
    processor=dataclasses.replace(HOST, name="Big GPU", num_cores=None, memory_bytes=2**37),
    to_device_bytes_per_s=5e10,
    from_device_bytes_per_s=4.5e10,
    count=1,
)
PROFILE = MachineProfile(
    name="desk",
    fingerprint="Fast One, 2 cores, 24 GiB, torch 2.13.0",
    measured_at="2026-01-02T03:04:05+00:00",
    host=HOST,
    accelerator=None,
    disk=DISK,
    baseline_bytes=263 * 2**20,
    compute_loss_s_per_byte=1e-11,
)


def profile(**changes: Any) -> MachineProfile:
    return dataclasses.replace(PROFILE, **changes)


_NAMES = st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1).filter(
    str.isprintable
)
_COUNTS = st.integers(1, 2**63 - 1)
_RATES = st.floats(1, 1e23)
_DTYPES = st.sampled_from(get_args(DType))
_MATMUL = st.builds(
    MatmulRate, dtype=_DTYPES, rows=_COUNTS, inner=_COUNTS, columns=_COUNTS, flops_per_s=_RATES
)
_ATTENTION = st.builds(
    AttentionRate,
    dtype=_DTYPES,
    seq_length=_COUNTS,
    head_size=_COUNTS,
    forward_flops_per_s=_RATES,
    backward_flops_per_s=_RATES,
)
_PROCESSORS = st.builds(
    Processor,
    name=_NAMES,
    num_cores=st.none() | _COUNTS,
    memory_bytes=_COUNTS,
    memory_bytes_per_s=_RATES,
    elementwise_bytes_per_s=_RATES,
    matmul=st.lists(_MATMUL, min_size=1, max_size=3).map(tuple),
    attention=st.lists(_ATTENTION, max_size=3).map(tuple),
)
_BLOCKS = st.builds(
    BlockRate, block_bytes=_COUNTS, read_bytes_per_s=_RATES, write_bytes_per_s=_RATES
)
_DISKS = st.builds(
    Disk,
    name=_NAMES,
    read_bytes_per_s=_RATES,
    write_bytes_per_s=_RATES,
    read_beside_write_bytes_per_s=_RATES,
    write_beside_read_bytes_per_s=_RATES,
    blocks=st.lists(_BLOCKS, max_size=3).map(tuple),
    free_bytes=st.integers(0, 2**63 - 1),
    endurance_bytes=st.none() | _COUNTS,
)
PROFILES = st.builds(
    MachineProfile,
    name=_NAMES,
    fingerprint=st.none() | _NAMES,
    measured_at=st.none()
    | st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    host=_PROCESSORS,
    accelerator=st.none()
    | st.builds(
        Accelerator,
        processor=_PROCESSORS,
        to_device_bytes_per_s=_RATES,
        from_device_bytes_per_s=_RATES,
        count=_COUNTS,
    ),
    disk=_DISKS,
    baseline_bytes=_COUNTS,
    compute_loss_s_per_byte=st.floats(0, 1),
)
