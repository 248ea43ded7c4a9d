"""Model, profile and plan of a training run: everything that is decided before a weight is read.

`plan_session` is what `outsize train` and `outsize plan` share, so that both give the same
prediction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from outsize.models.layered import Batch, LayeredModel
from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.plan.search import PlannedStep
from outsize.plan.simulate import Prediction
from outsize.probe.disk import measure_disk
from outsize.spec.machine import MachineProfile
from outsize.store.budget import peak_resident_bytes
from outsize.store.heap import drop_file_pages
from outsize.train.fit import choose_plan, fit_plans, make_layout, slack_bytes
from outsize.train.kernels import TrainKernels
from outsize.train.options import TrainOptions
from outsize.train.profile import Profile, profile_layers
from outsize.train.refusal import refusal, refuse_hopeless


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

    @property
    def trim_above_bytes(self) -> int:
        """Resident bytes from which on free pages of the heap are given back: gaps have then taken
        half of the slack.
        """
        expected_bytes = self.profile.fixed_bytes + self.planned.plan.arena_bytes
        return expected_bytes + slack_bytes(self.profile) // 2

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
    model: LayeredModel,
    options: TrainOptions,
    batch: Batch,
    *,
    budget_bytes: int,
    disk_bytes: int,
    floor_bytes: int,
    folder: Path,
) -> Session:
    """Profile the model's layers on `batch`, measure the disk of `folder`, and plan the step.

    Args:
        model: the model.
        options: of the run.
        batch: real rows, one micro-batch of them.
        budget_bytes: host budget of the whole process.
        disk_bytes: room for the state file.
        floor_bytes: host bytes that were taken before this process grew.
        folder: where the run's files will lie.

    Raises:
        UsageError: the options contradict the model.
        BudgetError: no plan fits, with remedies that do.
    """
    drop_file_pages()
    least, kernels = make_layout(model, options)
    refuse_hopeless(least, options, budget_bytes)
    profile = profile_layers(model, least, kernels, batch, budget_bytes)
    rates = measure_disk(folder, disk_bytes)
    machine = MachineProfile(
        read_bytes_per_s=rates.read_bytes_per_s,
        write_bytes_per_s=rates.write_bytes_per_s,
        memory_bytes_per_s=profile.memory_bytes_per_s,
    )
    arena_bytes = budget_bytes - profile.fixed_bytes - slack_bytes(profile)
    floor_bytes = max(floor_bytes, peak_resident_bytes())
    try:
        if floor_bytes > budget_bytes:
            raise DoesNotFitError(0)
        found = fit_plans(least, arena_bytes, machine, profile)
    except DoesNotFitError as error:
        raise refusal(
            model, options, batch, budget_bytes, floor_bytes, least, machine, profile
        ) from error
    layout, planned = choose_plan(found, disk_bytes)
    return Session(
        model=model,
        layout=layout,
        kernels=kernels,
        profile=profile,
        machine=machine,
        planned=planned,
        budget_bytes=budget_bytes,
        predicted_host_bytes=max(
            floor_bytes, profile.fixed_bytes + planned.plan.arena_bytes + slack_bytes(profile)
        ),
    )
