"""What `outsize plan train` and `outsize train --dry-run` return."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from outsize.plan.outlook import Gain
from outsize.plan.roles import Activations
from outsize.plan.search import Objective
from outsize.results import TierBytes
from outsize.values import MethodType


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """A whole run, or what is left of one that goes on.

    Attributes:
        steps: train steps that are left.
        steps_from: how they are known: `asked for`, from what they were counted or estimated, or
            how many are done.
        done_steps: steps that were committed before; 0 for a new run.
        evaluations: how often the loss of all evaluation rows is taken, the last time at the end.
        not_counted: what is left out of the numbers below because it cannot be told; None when
            nothing is.
        seconds: of the import of a new run, all steps and all evaluations; what comes before, from
            the data to the plan, is not counted.
        bytes_read: from the state on disk; rows, model files and the journal are not counted.
        bytes_written: to it, likewise.
        wear_fraction: bytes written over what the drive is rated for in its life; None when that is
            not known.
    """

    steps: int
    steps_from: str
    done_steps: int
    evaluations: int
    not_counted: str | None
    seconds: float
    bytes_read: int
    bytes_written: int
    wear_fraction: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """The best plan at one host budget.

    Attributes:
        budget_bytes: of the whole process.
        host_bytes: its predicted peak.
        step_s: wall time of a step.
        tokens_per_s: tokens of a step over that.
        bytes_read: from disk in a step.
        bytes_written: to disk in a step.
        micro_batch_size: rows that pass through a layer at once.
        activations: what the blocks do with the products of their weights.
    """

    budget_bytes: int
    host_bytes: int
    step_s: float
    tokens_per_s: float
    bytes_read: int
    bytes_written: int
    micro_batch_size: int
    activations: Activations


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlan:
    """The tier above the host, on a machine that has an accelerator.

    Attributes:
        name: of the accelerator.
        budget_bytes: its memory.
        predicted_peak_bytes: the most that is taken of it.
        device_bytes: that peak by role.
        update_on: where the optimizer's arithmetic runs.
        predicted_to_device_s: busy seconds of copies from host memory in one step.
        predicted_from_device_s: busy seconds of copies to host memory.
        predicted_host_update_s: busy seconds of the optimizer on the host.
        predicted_bytes_to_device: bytes that are copied from host memory in one step.
        predicted_bytes_from_device: bytes that are copied to it.
    """

    name: str
    budget_bytes: int
    predicted_peak_bytes: int
    device_bytes: dict[str, int]
    update_on: Literal["device", "host"]
    predicted_to_device_s: float
    predicted_from_device_s: float
    predicted_host_update_s: float
    predicted_bytes_to_device: int
    predicted_bytes_from_device: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodPrice:
    """What one method would take.

    Attributes:
        method: the method.
        num_trainable: parameters that its steps change.
        host_bytes: predicted host peak; where no plan fits, the least that one needs.
        disk_bytes: predicted disk peak; None where no plan fits the memory.
        step_s: predicted seconds of a step, likewise.
        bytes_written: predicted bytes that a step writes, likewise.
        fits: whether it fits the budgets.
    """

    method: MethodType
    num_trainable: int
    host_bytes: int
    disk_bytes: int | None = None
    step_s: float | None = None
    bytes_written: int | None = None
    fits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanResult:
    """What a training run would do; no weight was loaded for it.

    Attributes:
        model: what would be trained, as the user named it.
        num_elements: its parameters, adapters included.
        num_trainable: those of them that steps change.
        method: which parameters are trained.
        machine: the machine that it was planned for.
        machine_from: where its rates come from.
        layers_from: where the seconds and the temporaries of the layers come from.
        objective: what the plan is best at.
        dtype: compute dtype.
        tokens_per_step: tokens of one step, padding included.
        micro_batch_size: rows that pass through a layer at once.
        num_micro_batches: micro-batches of a step.
        max_seq_length: tokens of a row.
        span_elements: parameters whose optimizer state moves as one.
        activations: what the blocks do with the products of their weights.
        prefetch_bytes: the most that is read ahead of its use.
        budget_bytes: what is allowed.
        predicted_peak_bytes: the most that will be taken.
        everything_bytes: the host budget from which on nothing has to move.
        host_bytes: predicted host peak by role.
        disk_bytes: predicted disk peak by role.
        predicted_step_s: wall time of one step.
        predicted_tokens_per_s: tokens of a step over that.
        predicted_compute_s: busy seconds of the compute lane in one step.
        predicted_read_s: busy seconds of the read lane.
        predicted_write_s: busy seconds of the write lane.
        predicted_exposed_io_s: transfer time of one step that compute does not hide; with an
            accelerator also the time that it waits for updates on the host.
        predicted_bytes_read: bytes that one step reads.
        predicted_bytes_written: bytes that one step writes.
        limited_by: the lane that is busy longest.
        commits_every_step: whether every step is durable without an extra write.
        commit_seconds: otherwise at most about so much work is lost.
        device: the accelerator's part; None on a machine without one.
        total: the whole run; None when the number of steps is not known.
        methods: what each method would take, where the choice was left to the planner.
        gains: what more of something would buy.
        frontier: the best plans at growing budgets; empty when not asked for.
        plan: the actions as text, one a line; it parses back.
    """

    model: str
    num_elements: int
    method: MethodType = "full"
    num_trainable: int
    machine: str
    machine_from: str
    layers_from: str
    objective: Objective
    dtype: str
    tokens_per_step: int
    micro_batch_size: int
    num_micro_batches: int
    max_seq_length: int
    span_elements: int
    activations: Activations
    prefetch_bytes: int
    budget_bytes: TierBytes
    predicted_peak_bytes: TierBytes
    everything_bytes: int
    host_bytes: dict[str, int]
    disk_bytes: dict[str, int]
    predicted_step_s: float
    predicted_tokens_per_s: float
    predicted_compute_s: float
    predicted_read_s: float
    predicted_write_s: float
    predicted_exposed_io_s: float
    predicted_bytes_read: int
    predicted_bytes_written: int
    limited_by: str
    commits_every_step: bool
    commit_seconds: float
    total: Totals | None
    device: DevicePlan | None = None
    methods: tuple[MethodPrice, ...] = ()
    gains: tuple[Gain, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    plan: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of `outsize plan train` and of `outsize train --dry-run`; the
        actions, which are long, are in the Python object and in a run's `plan.txt`.
        """
        body = asdict(self)
        del body["plan"]
        return {"command": "plan", **body}
