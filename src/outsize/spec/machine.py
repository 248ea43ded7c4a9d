"""What is known of a machine: measured by `outsize probe`, or taken from the catalogue.

`MachineProfile` is the whole of it, as it stands in a profile file. `Lanes` is what the simulation
of a plan needs from it. Rates are sustained ones, per second, of the whole machine with all the
cores that the process may use.
"""

from dataclasses import dataclass, replace

from outsize.spec.tensor import DType

_UPDATE_FRACTION = 0.65
"""Rate of the fused AdamW over that of elementwise operations: 32 of 47 GB/s, measured on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulRate:
    """Speed of one matrix product `[rows, inner] x [inner, columns]`.

    Attributes:
        dtype: of both factors and the result.
        rows: rows of the left factor: tokens, in a model.
        inner: length of the sums.
        columns: columns of the right factor.
        flops_per_s: two operations for each element of the right factor and row.
    """

    dtype: DType
    rows: int
    inner: int
    columns: int
    flops_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionRate:
    """Speed of one causal attention, with the masked half left out of the count: forward
    `2 x seq_length^2 x head_size` operations a head and row, backward five halves of that.

    Attributes:
        dtype: of queries, keys and values.
        seq_length: positions of a row.
        head_size: elements of a head.
        forward_flops_per_s: of the forward.
        backward_flops_per_s: of the backward.
    """

    dtype: DType
    seq_length: int
    head_size: int
    forward_flops_per_s: float
    backward_flops_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """Something that computes and the memory beside it.

    Attributes:
        name: as its maker calls it.
        num_cores: cores that the process may use; None where that says nothing, as of a GPU.
        memory_bytes: memory that a process may use in all.
        memory_bytes_per_s: rate of one pass over memory.
        elementwise_bytes_per_s: rate of elementwise operations in a model, by the bytes that they
            read and write.
        matmul: matrix products by dtype and size; never empty.
        attention: attention by dtype and size; empty when only matrix products are known.
    """

    name: str
    num_cores: int | None
    memory_bytes: int
    memory_bytes_per_s: float
    elementwise_bytes_per_s: float
    matmul: tuple[MatmulRate, ...]
    attention: tuple[AttentionRate, ...] = ()

    def on_cores(self, num_cores: int) -> "Processor":
        """Return the rates of fewer of its cores: of products and attention in proportion, of
        memory as they are.
        """
        if self.num_cores is None or num_cores >= self.num_cores:
            return self
        share = num_cores / self.num_cores
        return replace(
            self,
            num_cores=num_cores,
            matmul=tuple(replace(r, flops_per_s=r.flops_per_s * share) for r in self.matmul),
            attention=tuple(
                replace(
                    rate,
                    forward_flops_per_s=rate.forward_flops_per_s * share,
                    backward_flops_per_s=rate.backward_flops_per_s * share,
                )
                for rate in self.attention
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A GPU or the like and its link to host memory.

    Attributes:
        processor: what computes, with its own memory.
        to_device_bytes_per_s: rate of copies from host memory.
        from_device_bytes_per_s: rate of copies to host memory.
        count: how many of them the machine has.
    """

    processor: Processor
    to_device_bytes_per_s: float
    from_device_bytes_per_s: float
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRate:
    """Rates of a disk for transfers of one size.

    Attributes:
        block_bytes: bytes of one transfer.
        read_bytes_per_s: of reads alone.
        write_bytes_per_s: of writes alone.
    """

    block_bytes: int
    read_bytes_per_s: float
    write_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A drive, as a run's folder sees it with direct I/O and large transfers.

    Attributes:
        name: what it is.
        read_bytes_per_s: reads alone.
        write_bytes_per_s: writes alone.
        read_beside_write_bytes_per_s: reads while writes go on.
        write_beside_read_bytes_per_s: writes while reads go on.
        blocks: rates by transfer size; empty when only the large ones are known.
        free_bytes: what is free on it.
        endurance_bytes: bytes that may be written to it in its life by its maker's rating; None
            when that is not known.
    """

    name: str
    read_bytes_per_s: float
    write_bytes_per_s: float
    read_beside_write_bytes_per_s: float
    write_beside_read_bytes_per_s: float
    blocks: tuple[BlockRate, ...] = ()
    free_bytes: int
    endurance_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineProfile:
    """One machine.

    Attributes:
        name: of the machine, or of its entry in the catalogue.
        fingerprint: what must be the same for the numbers to hold (processor, cores, memory,
            PyTorch version); None for a machine of the catalogue, which fits any.
        measured_at: date and time, UTC, in ISO form; None when nothing was measured.
        host: processor and main memory.
        accelerator: GPU or the like; None when there is none.
        disk: where run folders lie.
        baseline_bytes: host memory of a process with the libraries and nothing else.
        compute_loss_s_per_byte: arithmetic time lost for each byte that is read or written at the
            same time, since transfers take processor time and memory bandwidth.
    """

    name: str
    fingerprint: str | None
    measured_at: str | None
    host: Processor
    accelerator: Accelerator | None
    disk: Disk
    baseline_bytes: int
    compute_loss_s_per_byte: float

    @property
    def lanes(self) -> "Lanes":
        """The rates that a two-tier plan runs at."""
        return Lanes(
            read_bytes_per_s=self.disk.read_bytes_per_s,
            write_bytes_per_s=self.disk.write_bytes_per_s,
            read_beside_write_bytes_per_s=self.disk.read_beside_write_bytes_per_s,
            write_beside_read_bytes_per_s=self.disk.write_beside_read_bytes_per_s,
            update_bytes_per_s=_UPDATE_FRACTION * self.host.elementwise_bytes_per_s,
            compute_loss_s_per_byte=self.compute_loss_s_per_byte,
        )

    @property
    def tier_lanes(self) -> "Lanes":
        """The rates that a three-tier plan runs at; those of `lanes` without an accelerator."""
        if self.accelerator is None:
            return self.lanes
        return replace(
            self.lanes,
            device=DeviceLanes(
                to_device_bytes_per_s=self.accelerator.to_device_bytes_per_s,
                from_device_bytes_per_s=self.accelerator.from_device_bytes_per_s,
                update_bytes_per_s=self.accelerator.processor.elementwise_bytes_per_s,
                copy_loss_s_per_byte=1 / self.host.memory_bytes_per_s,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLanes:
    """What an accelerator adds to the lanes of a simulation.

    Attributes:
        to_device_bytes_per_s: of copies from host memory.
        from_device_bytes_per_s: of copies to host memory.
        update_bytes_per_s: of the optimizer update on the device, by the bytes that it touches.
        copy_loss_s_per_byte: time that arithmetic on the host loses for each byte copied to or from
            the device at the same time: one pass over its memory.
    """

    to_device_bytes_per_s: float
    from_device_bytes_per_s: float
    update_bytes_per_s: float
    copy_loss_s_per_byte: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """The rates of the lanes that a simulation has.

    Attributes:
        read_bytes_per_s: from disk, alone.
        write_bytes_per_s: to disk, alone.
        read_beside_write_bytes_per_s: from disk while writes go on.
        write_beside_read_bytes_per_s: to disk while reads go on.
        update_bytes_per_s: of the optimizer update on the host, by the bytes that it touches.
        compute_loss_s_per_byte: see `MachineProfile`.
        device: what runs the layers, and its lanes; None when the host does.
    """

    read_bytes_per_s: float
    write_bytes_per_s: float
    read_beside_write_bytes_per_s: float
    write_beside_read_bytes_per_s: float
    update_bytes_per_s: float
    compute_loss_s_per_byte: float = 0.0
    device: DeviceLanes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """Cost of one layer signature at the planned micro-batch.

    Attributes:
        forward_s: seconds of one forward of one micro-batch; 0 for the head.
        backward_s: seconds of one backward with its recomputed forward (for the head: forward and
            backward together).
        unpack_s: seconds of unpacking its weights; 0 where none are packed.
    """

    forward_s: float
    backward_s: float
    unpack_s: float = 0.0
