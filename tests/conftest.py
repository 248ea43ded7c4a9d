"""A machine profile for all tests, so that none measures the machine or touches the user's own."""

import datetime
import os
import tempfile
from pathlib import Path

from outsize.machines.fingerprint import machine_fingerprint
from outsize.machines.profile_file import profile_path, save_profile
from outsize.probe.mounts import disk_name
from outsize.spec.machine import AttentionRate, Disk, MachineProfile, MatmulRate, Processor

# Not a fixture: what is imported or started during collection must not see another home either.
_HOME = tempfile.TemporaryDirectory(prefix="outsize-tests-")
os.environ["OUTSIZE_HOME"] = _HOME.name


def _profile() -> MachineProfile:
    """This machine with round numbers; the disk is the one that tests write to."""
    host = Processor(
        name="test",
        num_cores=2,
        memory_bytes=2**34,
        memory_bytes_per_s=2e10,
        elementwise_bytes_per_s=1e10,
        matmul=tuple(
            MatmulRate(dtype=dtype, rows=rows, inner=1024, columns=1024, flops_per_s=rate)
            for dtype, rate in (("bfloat16", 5e11), ("float32", 1e11))
            for rows in (1, 1024)
        ),
        attention=(
            AttentionRate(
                dtype="bfloat16",
                seq_length=1024,
                head_size=64,
                forward_flops_per_s=1e11,
                backward_flops_per_s=5e10,
            ),
        ),
    )
    disk = Disk(
        name=disk_name(Path(tempfile.gettempdir())),
        read_bytes_per_s=1e9,
        write_bytes_per_s=1e9,
        read_beside_write_bytes_per_s=7e8,
        write_beside_read_bytes_per_s=7e8,
        free_bytes=2**36,
        endurance_bytes=None,
    )
    return MachineProfile(
        name="test",
        fingerprint=machine_fingerprint(None),
        measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        host=host,
        accelerator=None,
        disk=disk,
        baseline_bytes=300 * 2**20,
        compute_loss_s_per_byte=0.0,
    )


save_profile(_profile(), profile_path())
