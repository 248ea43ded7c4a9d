"""Sizes with which a whole probe takes a second."""

from outsize.probe.sizes import (
    ComputeSizes,
    DiskSizes,
    InterferenceSizes,
    MatmulShape,
    ProbeSizes,
)

HOST = ComputeSizes(
    dtypes=("bfloat16", "float32"),
    matmul_shapes=(MatmulShape(inner=32, columns=64), MatmulShape(inner=64, columns=32)),
    rows=(1, 8),
    seq_lengths=(16, 32),
    head_sizes=(16,),
    tokens=8,
    hidden_size=32,
    intermediate_size=64,
    buffer_bytes=2**16,
    working_bytes=2**20,
    point_s=0.001,
    longest_call_s=1.0,
    phase_s=10.0,
)
DISK = DiskSizes(
    block_bytes=(2**16, 2**18),
    section_bytes=2**20,
    pass_s=0.01,
    pass_bytes=2**20,
    together_s=0.02,
)
INTERFERENCE = InterferenceSizes(
    disk=DISK, shape=MatmulShape(inner=256, columns=256), rows=256, work_s=0.004, num_rounds=2
)
TINY = ProbeSizes(host=HOST, device=HOST, disk=DISK, interference=INTERFERENCE)
