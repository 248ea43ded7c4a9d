"""From a plan of three tiers to the result of `plan`; `describe.py` does it for two."""

from dataclasses import dataclass

from outsize.plan.actions import Tier
from outsize.plan.layout import Layout
from outsize.plan.roles import activations, peak_by_role, prefetch_bytes
from outsize.plan.tiers import TieredStep
from outsize.plan.whole_run import Pieces, pieces_of_tiers
from outsize.results import TierBytes
from outsize.spec.machine import Accelerator, MachineProfile
from outsize.train.describe import disk_roles, machine_from, predicted_facts, workload_facts
from outsize.train.fit import slack_bytes
from outsize.train.options import PlanOptions
from outsize.train.plan_result import DevicePlan, PlanResult
from outsize.train.profiled import Profile
from outsize.train.totals import Steps, evaluation_passes, totals

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
    """Return a plan of three tiers as the result of its verb; see `foresee_device`.

    Totals are counted as on two tiers; `pieces_of_tiers` says which of their parts are only about
    right. What an evaluation would take to disk and back has no room in the bytes on disk.
    """
    step, layout = found.step, found.layout
    prediction, workload = step.prediction, layout.workload
    host_bytes = _host_roles(found)
    fixed_bytes = sum(fixed_roles(layout, found.profile, "host").values())
    disk_bytes = disk_roles(layout, (step.steady,), other)
    return PlanResult(
        model=str(options.model),
        num_elements=layout.model.num_elements,
        num_trainable=layout.model.num_trainable,
        method=options.method,
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
        everything_bytes=sum(layout.region_bytes.values()) + fixed_bytes,
        host_bytes=host_bytes,
        disk_bytes=disk_bytes,
        **predicted_facts(prediction, workload),
        commits_every_step=step.commit_bytes_written == 0,
        commit_seconds=options.commit_seconds,
        total=totals(options, machine, _pieces(options, machine, steps, found), steps),
        device=_device(machine.accelerator, found),
        plan=step.to_text(),
    )


def fixed_roles(layout: Layout, profile: Profile, tier: Tier) -> dict[str, int]:
    """Return the bytes by role that are on the device, or on the host, with any plan."""
    if tier == "device":
        return {
            "driver and libraries": CONTEXT_BYTES,
            "temporaries": profile.temporaries_bytes,
        }
    return {"libraries": profile.baseline_bytes, "slack": slack_bytes(layout, profile)}


def _pieces(
    options: PlanOptions, machine: MachineProfile, steps: Steps | None, found: FoundStep
) -> Pieces:
    layout = found.layout
    num_passes = evaluation_passes(steps, layout.workload) if options.evaluates else None
    costs = found.profile.costs
    return pieces_of_tiers(found.step, layout, machine.tier_lanes, costs, num_passes)


def _host_roles(found: FoundStep) -> dict[str, int]:
    step, layout, profile = found.step, found.layout, found.profile
    roles = {
        **fixed_roles(layout, profile, "host"),
        **peak_by_role((*step.resident, *step.steady), layout, step.host_arena_bytes),
    }
    return dict(sorted(roles.items(), key=lambda entry: -entry[1]))


def _device(accelerator: Accelerator | None, found: FoundStep) -> DevicePlan:
    assert accelerator is not None
    step, layout, profile = found.step, found.layout, found.profile
    device_bytes = {
        **fixed_roles(layout, profile, "device"),
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
