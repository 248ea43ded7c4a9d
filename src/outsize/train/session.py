"""Model, profile and plan of a training run: everything that is decided before a weight is read.

`plan_session` is what `outsize train` and `outsize plan` share, so that both give the same
prediction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from outsize.errors import BudgetError, Contributor, Remedy
from outsize.models.layered import Batch, LayeredModel
from outsize.ops.adamw import AdamW
from outsize.plan.layout import Layout, role
from outsize.plan.residency import DoesNotFitError
from outsize.plan.search import PlannedStep, plan_train_step
from outsize.plan.simulate import Prediction
from outsize.probe.disk import measure_disk
from outsize.quantities import align_up
from outsize.spec.machine import MachineProfile
from outsize.spec.tensor import PAGE_BYTES
from outsize.store.budget import resident_bytes
from outsize.store.heap import trim_heap
from outsize.train.import_weights import import_bytes
from outsize.train.kernels import TrainKernels
from outsize.train.options import TrainOptions
from outsize.train.profile import Profile, profile_layers, smallest_arena_bytes
from outsize.train.workload import make_workload

SPAN_ELEMENTS = 2**20
"""Elements of one span of optimizer state: 12 MiB. Part of the state file's format."""

_LEAST_SLACK_BYTES = 16 * 2**20
_SLACK_FRACTION = 0.2

_REMEDY_STEP_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A planned run.

    Attributes:
        model: the layered model.
        layout: its regions.
        kernels: its arithmetic.
        profile: what was measured of it.
        machine: what was measured of the machine.
        planned: the plan and its prediction.
        budget_bytes: host budget of the whole process.
        predicted_host_bytes: predicted peak of the process.
    """

    model: LayeredModel
    layout: Layout
    kernels: TrainKernels
    profile: Profile
    machine: MachineProfile
    planned: PlannedStep
    budget_bytes: int
    predicted_host_bytes: int

    @property
    def prediction(self) -> Prediction:
        """Prediction of a steady step."""
        return self.planned.prediction

    def roles(self) -> Mapping[str, int]:
        """Return predicted host bytes by role, largest first."""
        baseline = self.profile.baseline_bytes
        parts = {
            "interpreter and libraries": baseline,
            "temporaries": self.profile.fixed_bytes - baseline,
            "arena": self.planned.plan.arena_bytes,
            "slack": slack_bytes(self.profile),
        }
        return dict(sorted(parts.items(), key=lambda entry: -entry[1]))


def plan_session(
    model: LayeredModel, options: TrainOptions, batch: Batch, budget_bytes: int, folder: Path
) -> Session:
    """Profile the model's layers on `batch`, measure the disk of `folder`, and plan the step.

    Args:
        model: the model.
        options: of the run.
        batch: real rows, one micro-batch of them.
        budget_bytes: host budget of the whole process.
        folder: where the run's files will lie.

    Raises:
        UsageError: the options contradict the model.
        BudgetError: no plan fits, with remedies that do.
    """
    layout, kernels = _layout(model, options)
    _refuse_hopeless(layout, options, budget_bytes)
    profile = profile_layers(model, layout, kernels, batch)
    rates = measure_disk(folder)
    machine = MachineProfile(
        read_bytes_per_s=rates.read_bytes_per_s,
        write_bytes_per_s=rates.write_bytes_per_s,
        memory_bytes_per_s=profile.memory_bytes_per_s,
    )
    arena_bytes = budget_bytes - profile.fixed_bytes - slack_bytes(profile)
    try:
        planned = _plan(layout, arena_bytes, machine, profile)
    except DoesNotFitError as error:
        raise _refusal(model, options, batch, budget_bytes, layout, machine, profile) from error
    return Session(
        model=model,
        layout=layout,
        kernels=kernels,
        profile=profile,
        machine=machine,
        planned=planned,
        budget_bytes=budget_bytes,
        predicted_host_bytes=profile.fixed_bytes + planned.plan.arena_bytes + slack_bytes(profile),
    )


def slack_bytes(profile: Profile) -> int:
    """Return the room for what is not profiled.

    Python objects, queues, and growth of the heap by fragmentation: temporaries of different
    layers, which are profiled one after the other, leave gaps between each other in a real step.
    """
    temporaries_bytes = profile.fixed_bytes - profile.baseline_bytes
    return _LEAST_SLACK_BYTES + int(_SLACK_FRACTION * temporaries_bytes)


def _layout(model: LayeredModel, options: TrainOptions) -> tuple[Layout, TrainKernels]:
    workload = make_workload(options, model.spec)
    layout = Layout(model=model.spec, workload=workload, span_elements=SPAN_ELEMENTS)
    optimizer = AdamW(
        beta1=options.adam_beta1,
        beta2=options.adam_beta2,
        epsilon=options.adam_epsilon,
        weight_decay=options.weight_decay,
    )
    return layout, TrainKernels(model, layout, optimizer)


def _plan(
    layout: Layout, arena_bytes: int, machine: MachineProfile, profile: Profile
) -> PlannedStep:
    usable_bytes = arena_bytes // PAGE_BYTES * PAGE_BYTES
    if usable_bytes < import_bytes(layout):
        raise DoesNotFitError(import_bytes(layout))
    return plan_train_step(layout, usable_bytes, machine, profile.costs)


def _refuse_hopeless(layout: Layout, options: TrainOptions, budget_bytes: int) -> None:
    """Refuse, before anything large is touched, what could not fit with temporaries of no size."""
    least_bytes = resident_bytes() + smallest_arena_bytes(layout) + _LEAST_SLACK_BYTES
    if least_bytes <= budget_bytes:
        return
    estimate_bytes = resident_bytes() + smallest_arena_bytes(layout) * 5 // 4 + _LEAST_SLACK_BYTES
    estimate_bytes += estimate_temporaries_bytes(layout)
    raise BudgetError(
        _subject(options),
        needed_bytes=estimate_bytes,
        budget_bytes=budget_bytes,
        tier="host",
        contributors=(
            Contributor(role="interpreter and libraries", size_bytes=resident_bytes()),
            *_largest_roles(layout),
            Contributor(role="temporaries", size_bytes=estimate_temporaries_bytes(layout)),
        ),
        remedies=(_memory_remedy(estimate_bytes),),
    )


def estimate_temporaries_bytes(layout: Layout) -> int:
    """Return a generous guess of what PyTorch allocates inside the largest action, without running
    it.
    """
    workload, model = layout.workload, layout.model
    item = 2 if workload.dtype == "bfloat16" else 4
    widths = (
        max(
            sum(p.tensor.shape[0] for p in layer.tensors if len(p.tensor.shape) > 1)
            for layer in layout.layers[1:-1]
        )
        if len(layout.layers) > 2
        else 0
    )
    block_bytes = 4 * workload.micro_batch_tokens * (widths + 8 * model.hidden_size) * item
    head_bytes = model.vocab_size * model.hidden_size * item + 20_000_000 * item
    return block_bytes + head_bytes + 64 * 2**20


def _refusal(
    model: LayeredModel,
    options: TrainOptions,
    batch: Batch,
    budget_bytes: int,
    layout: Layout,
    machine: MachineProfile,
    profile: Profile,
) -> BudgetError:
    needed_bytes = _smallest_budget_bytes(layout, machine, profile)
    remedies = [_memory_remedy(needed_bytes)]
    remedies += _shorter_rows(model, options, batch, budget_bytes, machine)
    return BudgetError(
        _subject(options),
        needed_bytes=needed_bytes,
        budget_bytes=budget_bytes,
        tier="host",
        contributors=(
            Contributor(role="interpreter and libraries", size_bytes=profile.baseline_bytes),
            Contributor(
                role="temporaries", size_bytes=profile.fixed_bytes - profile.baseline_bytes
            ),
            *_largest_roles(layout),
        ),
        remedies=tuple(remedies),
    )


def _smallest_budget_bytes(layout: Layout, machine: MachineProfile, profile: Profile) -> int:
    """Return the smallest host budget that a plan is found for, to 4 MiB."""
    low = max(smallest_arena_bytes(layout), import_bytes(layout))
    high = 2 * low
    while not _fits(layout, high, machine, profile):
        low, high = high, 2 * high
    while high - low > 4 * 2**20:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(layout, middle, machine, profile) else (middle, high)
    return high + profile.fixed_bytes + slack_bytes(profile)


def _fits(layout: Layout, arena_bytes: int, machine: MachineProfile, profile: Profile) -> bool:
    try:
        _plan(layout, arena_bytes, machine, profile)
    except DoesNotFitError:
        return False
    return True


def _shorter_rows(
    model: LayeredModel,
    options: TrainOptions,
    batch: Batch,
    budget_bytes: int,
    machine: MachineProfile,
) -> list[Remedy]:
    """Profile and plan again with rows of half and a quarter the length; return the first that
    fits.
    """
    for divisor in (2, 4):
        length = options.max_seq_length // divisor
        if length < 32:
            return []
        shorter = replace(options, max_seq_length=length)
        layout, kernels = _layout(model, shorter)
        trim_heap()
        if resident_bytes() + smallest_arena_bytes(layout) + _LEAST_SLACK_BYTES > budget_bytes:
            continue
        part = _cut(batch, layout.workload.micro_batch_rows, length)
        profile = profile_layers(model, layout, kernels, part)
        needed_bytes = _smallest_budget_bytes(layout, machine, profile)
        if needed_bytes <= budget_bytes:
            return [Remedy(change=f"--max-seq-length {length}", needed_bytes=needed_bytes)]
    return []


def _cut(batch: Batch, num_rows: int, length: int) -> Batch:
    """Return the tokens of a batch as shorter rows, repeated as often as it takes."""

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        needed = num_rows * length
        flat = tensor.flatten()
        return flat.repeat(-(-needed // flat.numel()))[:needed].view(num_rows, length)

    return Batch(
        input_ids=cut(batch.input_ids),
        position_ids=cut(batch.position_ids),
        labels=cut(batch.labels),
    )


def _memory_remedy(needed_bytes: int) -> Remedy:
    rounded = align_up(needed_bytes + _REMEDY_STEP_BYTES, _REMEDY_STEP_BYTES)
    return Remedy(change=f"--memory {rounded // 2**20}MiB", needed_bytes=needed_bytes)


def _largest_roles(layout: Layout) -> tuple[Contributor, ...]:
    """The largest regions, one of each role: what the arena must hold at least in part."""
    largest: dict[str, int] = {}
    for name, size in layout.region_bytes.items():
        largest[role(name)] = max(size, largest.get(role(name), 0))
    ordered = sorted(largest.items(), key=lambda entry: -entry[1])[:3]
    return tuple(Contributor(role=f"largest {name}", size_bytes=size) for name, size in ordered)


def _subject(options: TrainOptions) -> str:
    return (
        f"Training {options.model} with tokens_per_step={options.tokens_per_step}, "
        f"max_seq_length={options.max_seq_length}"
    )


def torch_dtype(name: str) -> torch.dtype:
    """Return the compute dtype of an option."""
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[name]
