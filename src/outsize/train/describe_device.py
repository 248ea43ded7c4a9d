"""From a plan of three tiers to the result of `plan`; `describe.py` does it for two."""

from dataclasses import dataclass

from outsize.plan.layout import Layout
from outsize.plan.roles import activations, peak_by_role, prefetch_bytes
from outsize.plan.tiers import TieredStep
from outsize.results import TierBytes
from outsize.spec.machine import Accelerator, MachineProfile
from outsize.train.describe import Steps, disk_roles, machine_from, predicted_facts, workload_facts
from outsize.train.fit import slack_bytes
from outsize.train.options import PlanOptions
from outsize.train.plan_result import DevicePlan, PlanResult, Totals
from outsize.train.profiled import Profile

CONTEXT_BYTES = 600 * 2**20
"""Device memory of the driver's context and of the libraries' work space; an assumption, no
measurement: drivers take 0.3 to 1 GiB.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStep:
    """A layout with its plan and what its layers take."""

    layout: Layout
    profile: Profile
    step: TieredStep


def describe_device(
    options: PlanOptions,
    machine: MachineProfile,
    budget: TierBytes,
    other: dict[str, int],
    steps: Steps | None,
    found: FoundStep,
) -> PlanResult:
    """Return a plan of three tiers as the result of its verb; see `foresee_device`."""
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
        device=_device(machine.accelerator, found),
        plan=step.to_text(),
    )


def _host_roles(found: FoundStep) -> dict[str, int]:
    step, layout, profile = found.step, found.layout, found.profile
    roles = {
        "libraries": profile.baseline_bytes,
        "slack": slack_bytes(layout, profile),
        **peak_by_role((*step.resident, *step.steady), layout, step.host_arena_bytes),
    }
    return dict(sorted(roles.items(), key=lambda entry: -entry[1]))


def _device(accelerator: Accelerator | None, found: FoundStep) -> DevicePlan:
    assert accelerator is not None
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
