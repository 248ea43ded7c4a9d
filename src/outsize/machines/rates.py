"""Sustained rates of a processor from what the catalogue knows of it.

- **Products of matrices.** The measured rate of large products where there is one; else a fraction
  of the peak. Devices with a measurement reach 0.5 to 1.1 of it in bfloat16 and 0.4 to 1.0 in
  float32 (stas00/ml-engineering, zzc0721/torch-performance-test-data), hosts 0.4 to 0.8
  (chsasank/device-benchmarks).
- **Small products** also wait for memory. The time of one is its arithmetic at the large rate plus
  its bytes at the rate of memory, without the overlap that a roofline assumes. On two Zen 5 cores
  this is within an eighth of what bfloat16 measures from 16 rows on; one row measures 0.6 of it.
- **Attention** is a fraction of products that rises with the length. On a host it is one of the
  float32 products in both dtypes, as measured on Zen 5 with PyTorch 2.13, forward and backward.
  On a device, a long one of FlashAttention-2 reaches 0.50 to 0.73 of the peak of an A100 (arXiv
  2307.08691) and 0.35 of that of an H100 (arXiv 2407.08608), where products reach 0.85 and 0.80;
  the rise with the length and the slower backward are as in Triton's tutorial 06.
- **Memory.** The measured rate of a copy, else a fraction of the peak: devices reach 0.73 to 0.92
  of it, hosts 0.3 to 0.67 (chsasank/device-benchmarks). The elementwise operations of a block run
  at 0.76 to 0.86 of the rate of memory on Zen 5; the same is assumed of devices.
"""

from dataclasses import dataclass

from outsize.machines.entries import ProcessorEntry
from outsize.spec.machine import AttentionRate, MatmulRate, Processor
from outsize.spec.tensor import DTYPE_BYTES, DType

MATMUL_ROWS = (1, 16, 64, 256, 1024, 4096)
MATMUL_SIZES = ((1024, 1024), (2048, 2048), (4096, 4096), (4096, 16384), (16384, 4096))
"""`(inner, columns)` of the products that a processor of the catalogue has rates for."""

ATTENTION_HEAD_SIZES = (64, 128)

ELEMENTWISE_FRACTION = 0.8
"""Of the rate of memory, for elementwise operations in a model."""

HOST_USABLE_FRACTION = 0.9
"""Of main memory, for a process; the kernel, the firmware and other programs have the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fractions:
    """What one kind of processor sustains.

    Attributes:
        bf16: of the peak, by large bfloat16 products.
        fp32: of the peak, by large float32 products.
        memory: of the peak rate, by a copy.
        attention: for rising lengths, `(seq_length, forward, backward)` of the products' rate.
    """

    bf16: float
    fp32: float
    memory: float
    attention: tuple[tuple[int, float, float], ...]


HOST = Fractions(
    bf16=0.5,
    fp32=0.5,
    memory=0.5,
    attention=((128, 0.3, 0.3), (512, 0.4, 0.4), (1024, 0.55, 0.55), (4096, 0.75, 0.75)),
)
DEVICE = Fractions(
    bf16=0.7,
    fp32=0.6,
    memory=0.8,
    attention=((128, 0.15, 0.1), (512, 0.3, 0.2), (1024, 0.4, 0.3), (4096, 0.55, 0.4)),
)


def host_processor(entry: ProcessorEntry, memory_bytes: int) -> Processor:
    """Return a host with its sustained rates.

    Args:
        entry: row of the catalogue.
        memory_bytes: main memory that is built in.
    """
    large = _large_products(entry, HOST)
    return _processor(
        entry,
        HOST,
        memory_bytes=int(memory_bytes * HOST_USABLE_FRACTION),
        large=large,
        attention_base={dtype: min(rate, large["float32"]) for dtype, rate in large.items()},
    )


def device_processor(entry: ProcessorEntry) -> Processor:
    """Return an accelerator with its sustained rates."""
    assert entry.memory_bytes is not None, f"{entry.name} has no memory"
    large = _large_products(entry, DEVICE)
    return _processor(
        entry, DEVICE, memory_bytes=entry.memory_bytes, large=large, attention_base=large
    )


def product_rate(
    large_flops_per_s: float,
    memory_bytes_per_s: float,
    dtype: DType,
    rows: int,
    inner: int,
    columns: int,
) -> float:
    """Return the operations per second of one product `[rows, inner] x [inner, columns]`.

    Args:
        large_flops_per_s: of products so large that memory does not matter.
        memory_bytes_per_s: of one pass over memory.
        dtype: of both factors and the result.
        rows: rows of the left factor.
        inner: length of the sums.
        columns: columns of the right factor.
    """
    flops = 2 * rows * inner * columns
    size_bytes = DTYPE_BYTES[dtype] * (inner * columns + rows * inner + rows * columns)
    return flops / (flops / large_flops_per_s + size_bytes / memory_bytes_per_s)


def _large_products(entry: ProcessorEntry, kind: Fractions) -> dict[DType, float]:
    return {
        "float32": _sustained(
            entry.measured_fp32_matmul_flops_per_s, entry.peak_fp32_flops_per_s, kind.fp32
        ),
        "bfloat16": _sustained(
            entry.measured_bf16_matmul_flops_per_s, entry.peak_bf16_flops_per_s, kind.bf16
        ),
    }


def _sustained(measured: float | None, peak: float | None, fraction: float) -> float:
    if measured is not None:
        return measured
    assert peak is not None, "a row has neither a measured rate nor a peak"
    return peak * fraction


def _processor(
    entry: ProcessorEntry,
    kind: Fractions,
    *,
    memory_bytes: int,
    large: dict[DType, float],
    attention_base: dict[DType, float],
) -> Processor:
    memory_bytes_per_s = _sustained(
        entry.measured_memory_bytes_per_s, entry.peak_memory_bytes_per_s, kind.memory
    )
    return Processor(
        name=entry.name,
        num_cores=entry.num_cores,
        memory_bytes=memory_bytes,
        memory_bytes_per_s=memory_bytes_per_s,
        elementwise_bytes_per_s=memory_bytes_per_s * ELEMENTWISE_FRACTION,
        matmul=tuple(
            MatmulRate(
                dtype=dtype,
                rows=rows,
                inner=inner,
                columns=columns,
                flops_per_s=product_rate(rate, memory_bytes_per_s, dtype, rows, inner, columns),
            )
            for dtype, rate in large.items()
            for inner, columns in MATMUL_SIZES
            for rows in MATMUL_ROWS
        ),
        attention=_attention(attention_base, kind),
    )


def _attention(base: dict[DType, float], kind: Fractions) -> tuple[AttentionRate, ...]:
    return tuple(
        AttentionRate(
            dtype=dtype,
            seq_length=seq_length,
            head_size=head_size,
            forward_flops_per_s=rate * forward,
            backward_flops_per_s=rate * backward,
        )
        for dtype, rate in base.items()
        for seq_length, forward, backward in kind.attention
        for head_size in ATTENTION_HEAD_SIZES
    )
