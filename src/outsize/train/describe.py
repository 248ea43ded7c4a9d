"""From a chosen plan to the result of `plan`: the same numbers for a run that is about to start and
for one that is only thought about.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outsize.plan.actions import Action
from outsize.plan.choose import Choice
from outsize.plan.layout import Layout
from outsize.plan.outlook import Gain, everything_bytes
from outsize.plan.roles import activations, peak_by_role, prefetch_bytes
from outsize.plan.simulate import Prediction
from outsize.plan.whole_run import Pieces
from outsize.results import TierBytes
from outsize.spec.machine import MachineProfile
from outsize.spec.workload import TrainWorkload
from outsize.store.store import layout_bytes
from outsize.train.budgets import TWO_COPIES
from outsize.train.fit import slack_bytes
from outsize.train.options import TrainOptions
from outsize.train.plan_result import FrontierPoint, PlanResult
from outsize.train.profiled import Profile
from outsize.train.state_file import all_extents, journal_and_logs_bytes
from outsize.train.totals import Steps, totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Everything that a plan's description is made from.

    Attributes:
        options: of the run.
        machine: that it is planned for.
        profile: of its layers.
        choice: the shape of the step and its plan.
        budget_bytes: what is allowed.
        predicted_host_bytes: host peak of the whole run.
        disk_bytes: predicted bytes on disk by role.
        steps: how much the run has to do; None when that is not known.
        pieces: what the parts of the run take.
    """

    options: TrainOptions
    machine: MachineProfile
    profile: Profile
    choice: Choice
    budget_bytes: TierBytes
    predicted_host_bytes: int
    disk_bytes: Mapping[str, int]
    steps: Steps | None
    pieces: Pieces


def describe(
    outline: Outline, gains: Sequence[Gain] = (), frontier: Sequence[FrontierPoint] = ()
) -> PlanResult:
    """Return the plan as the result of its verb."""
    layout, planned = outline.choice.candidate.layout, outline.choice.planned
    workload, prediction = layout.workload, planned.prediction
    return PlanResult(
        model=str(outline.options.model),
        num_elements=layout.model.num_elements,
        num_trainable=layout.model.num_trainable,
        method=outline.options.method,
        machine=outline.machine.name,
        machine_from=machine_from(outline.machine),
        layers_from=_layers_from(outline.profile),
        objective=outline.options.objective,
        **workload_facts(workload),
        span_elements=layout.span_elements,
        activations=activations(planned.plan.steady, layout),
        prefetch_bytes=prefetch_bytes(planned.plan.steady, layout),
        budget_bytes=outline.budget_bytes,
        predicted_peak_bytes=TierBytes(
            host=outline.predicted_host_bytes, disk=sum(outline.disk_bytes.values())
        ),
        everything_bytes=everything_bytes(outline.choice.candidate),
        host_bytes=host_roles(outline),
        disk_bytes=dict(outline.disk_bytes),
        **predicted_facts(prediction, workload),
        commits_every_step=planned.plan.commits_every_step,
        commit_seconds=outline.options.commit_seconds,
        total=totals(outline.options, outline.machine, outline.pieces, outline.steps),
        gains=tuple(gains),
        frontier=tuple(frontier),
        plan=planned.plan.to_text(),
    )


def workload_facts(workload: TrainWorkload) -> dict[str, Any]:
    """Return what a plan says of its step."""
    return {
        "dtype": workload.dtype,
        "tokens_per_step": workload.tokens_per_step,
        "micro_batch_size": workload.micro_batch_rows,
        "num_micro_batches": workload.num_micro_batches,
        "max_seq_length": workload.seq_length,
    }


def predicted_facts(prediction: Prediction, workload: TrainWorkload) -> dict[str, Any]:
    """Return what a plan says of its time and traffic."""
    return {
        "predicted_step_s": prediction.step_s,
        "predicted_tokens_per_s": workload.tokens_per_step / prediction.step_s,
        "predicted_compute_s": prediction.compute_s,
        "predicted_read_s": prediction.read_s,
        "predicted_write_s": prediction.write_s,
        "predicted_exposed_io_s": prediction.exposed_io_s,
        "predicted_bytes_read": prediction.bytes_read,
        "predicted_bytes_written": prediction.bytes_written,
        "limited_by": prediction.limited_by,
    }


def host_roles(outline: Outline) -> dict[str, int]:
    """Return predicted host bytes by role, largest first; they add up to the predicted peak."""
    profile, layout = outline.profile, outline.choice.candidate.layout
    plan = outline.choice.planned.plan
    parts = {
        "libraries": profile.baseline_bytes,
        "temporaries": profile.temporaries_bytes,
        "slack": slack_bytes(layout, profile),
        **peak_by_role((*plan.prologue, *plan.steady), layout, plan.arena_bytes),
    }
    # The preparation of data in other processes may take more than the steps do.
    parts["preparation"] = outline.predicted_host_bytes - sum(parts.values())
    return dict(sorted(((k, v) for k, v in parts.items() if v), key=lambda entry: -entry[1]))


def disk_roles(
    layout: Layout, lists: Iterable[Iterable[Action]], other: Mapping[str, int]
) -> dict[str, int]:
    """Return predicted bytes on disk by role.

    Args:
        layout: the regions.
        lists: all lists that the run executes.
        other: bytes of what else lies in the run folder, by role.
    """
    extents = all_extents(layout, lists)
    state_bytes = layout.state_copies * layout.state_bytes
    base = {"frozen weights": layout.base_bytes} if layout.base_bytes else {}
    return {
        **base,
        "state, one copy" if layout.state_copies == 1 else TWO_COPIES: state_bytes,
        "scratch": layout_bytes(extents) - layout.base_bytes - state_bytes,
        **other,
        "journal and logs": journal_and_logs_bytes(layout),
    }


def frontier_point(budget_bytes: int, choice: Choice) -> FrontierPoint:
    """Return one line of the frontier."""
    layout, prediction = choice.candidate.layout, choice.planned.prediction
    return FrontierPoint(
        budget_bytes=budget_bytes,
        host_bytes=choice.host_bytes,
        step_s=prediction.step_s,
        tokens_per_s=layout.workload.tokens_per_step / prediction.step_s,
        bytes_read=prediction.bytes_read,
        bytes_written=prediction.bytes_written,
        micro_batch_size=layout.workload.micro_batch_rows,
        activations=activations(choice.planned.plan.steady, layout),
    )


def machine_from(machine: MachineProfile) -> str:
    """Return where a machine's rates come from, in words."""
    if machine.measured_at is None:
        return "the catalogue"
    return f"measured {machine.measured_at[:16].replace('T', ' ')} UTC"


def _layers_from(profile: Profile) -> str:
    if profile.measured_at is None:
        return "worked out from the machine's rates"
    return f"measured on the layers {profile.measured_at[:16].replace('T', ' ')} UTC"
