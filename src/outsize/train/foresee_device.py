"""Plan a run on a machine with an accelerator: three tiers, device above host above disk.

Nothing executes such a plan yet; it tells what a machine that is not at hand would make of a model.
Read `plan/tiers.py` for the plan itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from outsize.errors import BudgetError, Contributor, Remedy
from outsize.formats.model_spec import KnownModel
from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.plan.roles import activations, peak_by_role, prefetch_bytes
from outsize.plan.tiers import TieredStep, plan_tiers
from outsize.results import TierBytes
from outsize.spec.machine import Accelerator, MachineProfile
from outsize.train.budgets import disk_refusal
from outsize.train.describe import Steps, disk_roles, machine_from, predicted_facts, workload_facts
from outsize.train.fit import slack_bytes, span_elements
from outsize.train.options import PlanOptions
from outsize.train.plan_result import DevicePlan, PlanResult, Totals
from outsize.train.profiled import Profile, expected_profile
from outsize.train.remedies import memory_remedy, subject
from outsize.train.workload import make_workload

CONTEXT_BYTES = 600 * 2**20
"""Device memory of the driver's context and of the libraries' work space; an assumption, no
measurement: drivers take 0.3 to 1 GiB.
"""

_DEVICE_TOKENS = 8192
"""A micro-batch that fills a large accelerator; tried beside the usual one."""

_CLOSE_FRACTION = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A layout with its plan and what its layers take."""

    layout: Layout
    profile: Profile
    step: TieredStep

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch."""
        return self.layout.workload.micro_batch_tokens

    @property
    def waits(self) -> bool:
        """Whether the step is slower than its arithmetic."""
        prediction = self.step.prediction
        return prediction.step_s > (1 + _CLOSE_FRACTION) * prediction.compute_s


def foresee_device(
    options: PlanOptions,
    known: KnownModel,
    machine: MachineProfile,
    budget: TierBytes,
    other: dict[str, int],
    steps: Steps | None,
) -> PlanResult:
    """Return the plan on a machine that has an accelerator.

    Args:
        options: of the run.
        known: the model.
        machine: the machine.
        budget: host memory and disk that the run may take.
        other: bytes on disk besides the state, by role.
        steps: of the whole run; None when that is not known.

    Raises:
        BudgetError: it fits neither the device nor the host.
    """
    accelerator = machine.accelerator
    assert accelerator is not None
    found: list[_Found] = []
    failures: list[tuple[DoesNotFitError, Layout, Profile]] = []
    for layout in _layouts(options, known):
        if any(not one.waits or one.tokens > layout.workload.micro_batch_tokens for one in found):
            break  # a smaller micro-batch and recomputation only help where the disk does not wait
        profile = expected_profile(layout, known.blocks, machine, accelerator.processor)
        try:
            step = _plan(options, layout, profile, machine, accelerator, budget)
        except DoesNotFitError as error:
            failures.append((error, layout, profile))
            continue
        found.append(_Found(layout=layout, profile=profile, step=step))
    if not found:
        raise _refusal(options, accelerator, budget, failures)
    best = min(found, key=lambda one: one.step.prediction.step_s)
    result = _result(options, machine, accelerator, budget, other, steps, best)
    if result.predicted_peak_bytes.disk > budget.disk:
        free_bytes = machine.disk.free_bytes
        raise disk_refusal(subject(options), result.disk_bytes, budget.disk, free_bytes)
    return result


def _layouts(options: PlanOptions, known: KnownModel) -> Iterator[Layout]:
    """Yield the shapes to try, the preferred one first: a micro-batch as on a CPU and a large one,
    with products kept and recomputed.
    """
    usual = make_workload(options, known.spec)
    workloads = [usual[0]]
    if options.micro_batch_size is None:
        rows = usual[0].rows_per_step
        most = max(1, _DEVICE_TOKENS // usual[0].seq_length)
        large = max(n for n in range(1, min(rows, most) + 1) if rows % n == 0)
        if large != usual[0].micro_batch_rows:
            workloads.insert(0, replace(usual[0], micro_batch_rows=large))
    for workload in workloads:
        layout = Layout(
            model=known.spec, workload=workload, span_elements=span_elements(known.spec)
        )
        kept = replace(
            layout,
            keeping_blocks=layout.num_blocks,
            pins_products=options.activations == "keep",
        )
        if options.activations != "recompute":
            yield kept
        if options.activations in ("auto", "recompute"):
            yield layout


def _plan(
    options: PlanOptions,
    layout: Layout,
    profile: Profile,
    machine: MachineProfile,
    accelerator: Accelerator,
    budget: TierBytes,
) -> TieredStep:
    temporaries = profile.fixed_bytes - profile.baseline_bytes
    host_fixed = profile.baseline_bytes + slack_bytes(layout, profile)
    return plan_tiers(
        layout,
        device_bytes=_pages(accelerator.processor.memory_bytes - CONTEXT_BYTES - temporaries),
        host_bytes=_pages(budget.host - host_fixed),
        machine=machine.tier_lanes,
        costs=profile.costs,
        objective=options.objective,
    )


def _pages(size_bytes: int) -> int:
    return max(0, size_bytes) // 4096 * 4096


def _refusal(
    options: PlanOptions,
    accelerator: Accelerator,
    budget: TierBytes,
    failures: list[tuple[DoesNotFitError, Layout, Profile]],
) -> BudgetError:
    error, layout, profile = min(failures, key=lambda failure: failure[0].needed_bytes)
    temporaries = profile.fixed_bytes - profile.baseline_bytes
    on_device = error.tier == "device"
    fixed = (
        {"driver and libraries": CONTEXT_BYTES, "temporaries": temporaries}
        if on_device
        else {"libraries": profile.baseline_bytes, "slack": slack_bytes(layout, profile)}
    )
    needed_bytes = error.needed_bytes + sum(fixed.values())
    host_remedies = () if on_device else (memory_remedy(needed_bytes),)
    shorter = Remedy(
        change=f"--max-seq-length {options.max_seq_length // 2}, or another --machine",
        needed_bytes=needed_bytes // 2,
    )
    return BudgetError(
        subject(options),
        needed_bytes=needed_bytes,
        budget_bytes=accelerator.processor.memory_bytes if on_device else budget.host,
        tier=error.tier,
        contributors=(
            *(Contributor(role=role, size_bytes=size) for role, size in fixed.items()),
            Contributor(role="largest action", size_bytes=error.needed_bytes),
        ),
        remedies=host_remedies or (shorter,),
    )


def _result(
    options: PlanOptions,
    machine: MachineProfile,
    accelerator: Accelerator,
    budget: TierBytes,
    other: dict[str, int],
    steps: Steps | None,
    found: _Found,
) -> PlanResult:
    step, layout = found.step, found.layout
    prediction, workload = step.prediction, layout.workload
    host_bytes = _host_roles(found)
    disk_bytes = disk_roles(layout, (step.steady,), other)
    return PlanResult(
        model=str(options.model),
        num_elements=layout.model.num_elements,
        machine=machine.name,
        machine_from=machine_from(machine),
        layers_from="worked out from the machine's rates",
        objective=options.objective,
        **workload_facts(workload),
        span_elements=layout.span_elements,
        activations=activations(step.steady, layout),
        prefetch_bytes=prefetch_bytes(step.steady, layout),
        budget_bytes=budget,
        predicted_peak_bytes=TierBytes(
            host=sum(host_bytes.values()), disk=sum(disk_bytes.values())
        ),
        everything_bytes=sum(layout.region_bytes.values()) + sum(host_bytes.values()),
        host_bytes=host_bytes,
        disk_bytes=disk_bytes,
        **predicted_facts(prediction, workload),
        commits_every_step=step.commit_bytes_written == 0,
        commit_seconds=options.commit_seconds,
        total=_totals(options, machine, step, steps),
        device=_device(accelerator, found),
        plan=step.to_text(),
    )


def _host_roles(found: _Found) -> dict[str, int]:
    step, layout, profile = found.step, found.layout, found.profile
    roles = {
        "libraries": profile.baseline_bytes,
        "slack": slack_bytes(layout, profile),
        **peak_by_role((*step.resident, *step.steady), layout, step.host_arena_bytes),
    }
    return dict(sorted(roles.items(), key=lambda entry: -entry[1]))


def _device(accelerator: Accelerator, found: _Found) -> DevicePlan:
    step, layout, profile = found.step, found.layout, found.profile
    device_bytes = {
        "driver and libraries": CONTEXT_BYTES,
        "temporaries": profile.fixed_bytes - profile.baseline_bytes,
        **peak_by_role((*step.resident, *step.steady), layout, step.device_arena_bytes, "device"),
    }
    return DevicePlan(
        name=accelerator.processor.name,
        budget_bytes=accelerator.processor.memory_bytes,
        predicted_peak_bytes=sum(device_bytes.values()),
        device_bytes=dict(sorted(device_bytes.items(), key=lambda entry: -entry[1])),
        update_on=step.update_on,
        predicted_to_device_s=step.prediction.to_device_s,
        predicted_from_device_s=step.prediction.from_device_s,
        predicted_host_update_s=step.prediction.host_update_s,
        predicted_bytes_to_device=step.prediction.bytes_to_device,
        predicted_bytes_from_device=step.prediction.bytes_from_device,
    )


def _totals(
    options: PlanOptions, machine: MachineProfile, step: TieredStep, steps: Steps | None
) -> Totals | None:
    if steps is None:
        return None
    prediction = step.prediction
    every = max(1, int(options.commit_seconds / prediction.step_s))
    written = (
        steps.count * prediction.bytes_written + steps.count // every * step.commit_bytes_written
    )
    endurance = machine.disk.endurance_bytes
    return Totals(
        steps=steps.count,
        steps_from=steps.known_from,
        seconds=steps.count * prediction.step_s,
        bytes_read=steps.count * prediction.bytes_read,
        bytes_written=written,
        wear_fraction=None if endurance is None else written / endurance,
    )
