"""How large and how long the probe measures: the one place for its sizes.

`FULL` keeps the whole probe under a minute on two cores and each of its processes near 400 MiB.
Sizes travel to child processes as JSON.
"""

from dataclasses import dataclass

from outsize.spec.tensor import DType

_KIB, _MIB = 2**10, 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulShape:
    """A weight matrix `[columns, inner]`, as `torch.nn.functional.linear` takes it."""

    inner: int
    columns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeSizes:
    """What a processor is measured with.

    Attributes:
        dtypes: compute dtypes.
        matmul_shapes: weight matrices.
        rows: rows of the left factor, rising.
        seq_lengths: positions of an attention, rising.
        head_sizes: elements of a head.
        tokens: rows of the elementwise operations.
        hidden_size: their columns; `intermediate_size` those of the gate.
        buffer_bytes: what one pass over memory takes; several times a cache.
        working_bytes: what any other measurement may take; larger sizes are left out.
        point_s: seconds to spend on one size after warming up.
        longest_call_s: sizes whose one call would take longer are left out.
        phase_s: when so much time is spent, the sizes that are left are left out.
    """

    dtypes: tuple[DType, ...]
    matmul_shapes: tuple[MatmulShape, ...]
    rows: tuple[int, ...]
    seq_lengths: tuple[int, ...]
    head_sizes: tuple[int, ...]
    tokens: int
    hidden_size: int
    intermediate_size: int
    buffer_bytes: int
    working_bytes: int
    point_s: float
    longest_call_s: float
    phase_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSizes:
    """What a disk is measured with.

    Attributes:
        block_bytes: sizes of one transfer, rising; the last one is also the size of the transfers
            that go both ways together.
        section_bytes: bytes of the scratch file for each of them, and twice for those that go
            together.
        pass_s: time for one rate; `pass_bytes` end it earlier.
        pass_bytes: bytes for one rate.
        together_s: time for the rates of reads and writes together.
    """

    block_bytes: tuple[int, ...]
    section_bytes: int
    pass_s: float
    pass_bytes: int
    together_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InterferenceSizes:
    """What the cost of transfers to arithmetic is measured with.

    Attributes:
        disk: of the transfers.
        shape: weight matrix of the arithmetic.
        rows: rows of its left factor.
        work_s: seconds of arithmetic in each half of a round.
        num_rounds: rounds, each alone and then beside transfers.
    """

    disk: DiskSizes
    shape: MatmulShape
    rows: int
    work_s: float
    num_rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSizes:
    """Sizes of a whole probe."""

    host: ComputeSizes
    device: ComputeSizes
    disk: DiskSizes
    interference: InterferenceSizes


_HOST = ComputeSizes(
    dtypes=("bfloat16", "float32"),
    matmul_shapes=(
        MatmulShape(inner=576, columns=1536),
        MatmulShape(inner=2048, columns=2048),
        MatmulShape(inner=2048, columns=5632),
    ),
    rows=(1, 16, 64, 256, 1024, 4096),
    seq_lengths=(128, 512, 1024, 4096),
    head_sizes=(64, 128),
    tokens=512,
    hidden_size=2048,
    intermediate_size=4096,
    buffer_bytes=128 * _MIB,
    working_bytes=80 * _MIB,
    point_s=0.15,
    longest_call_s=1.5,
    phase_s=12.0,
)

_DEVICE = ComputeSizes(
    dtypes=("bfloat16", "float32"),
    matmul_shapes=(
        MatmulShape(inner=2048, columns=5632),
        MatmulShape(inner=4096, columns=14336),
    ),
    rows=(1, 16, 64, 256, 1024, 4096, 16384),
    seq_lengths=(128, 512, 1024, 4096),
    head_sizes=(64, 128),
    tokens=8192,
    hidden_size=4096,
    intermediate_size=14336,
    buffer_bytes=512 * _MIB,
    working_bytes=2048 * _MIB,
    point_s=0.05,
    longest_call_s=1.5,
    phase_s=8.0,
)

_DISK = DiskSizes(
    block_bytes=(64 * _KIB, 256 * _KIB, 1 * _MIB, 4 * _MIB, 16 * _MIB),
    section_bytes=64 * _MIB,
    pass_s=0.3,
    pass_bytes=256 * _MIB,
    together_s=0.8,
)

LARGE_BLOCKS = DiskSizes(
    block_bytes=(1 * _MIB, 16 * _MIB),
    section_bytes=64 * _MIB,
    pass_s=0.3,
    pass_bytes=256 * _MIB,
    together_s=0.8,
)
"""For another disk than the one of the profile: the rates that a plan needs, in two seconds."""

FULL = ProbeSizes(
    host=_HOST,
    device=_DEVICE,
    disk=_DISK,
    interference=InterferenceSizes(
        disk=LARGE_BLOCKS,
        shape=MatmulShape(inner=2048, columns=5632),
        rows=512,
        work_s=0.3,
        num_rounds=4,
    ),
)
