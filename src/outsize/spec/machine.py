"""What was measured of a machine, as far as the planner needs it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineProfile:
    """Measured rates of one machine.

    Attributes:
        read_bytes_per_s: sustained read rate of the run folder's disk.
        write_bytes_per_s: sustained write rate of it.
        memory_bytes_per_s: rate at which one pass over host memory runs.
    """

    read_bytes_per_s: float
    write_bytes_per_s: float
    memory_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """Measured cost of one layer signature at the planned micro-batch.

    Attributes:
        forward_s: seconds of one forward of one micro-batch (for the head: forward and backward
            together).
        backward_s: seconds of one backward with its recomputed forward; 0 for the head.
    """

    forward_s: float
    backward_s: float
