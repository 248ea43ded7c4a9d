"""Model, profile and plan of a training run: everything that is decided before a weight is read.

`plan_session` is what `outsize train` and `outsize plan` share, so that both give the same
prediction.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from outsize.errors import BudgetError
from outsize.models.layered import Batch, LayeredModel
from outsize.plan.choose import Choice, choose, smallest_budget_bytes
from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.plan.search import PlannedStep
from outsize.plan.simulate import Prediction
from outsize.spec.machine import Lanes, MachineProfile
from outsize.store.budget import peak_resident_bytes, resident_bytes
from outsize.store.heap import drop_file_pages, trim_heap
from outsize.train.fit import (
    candidate,
    fits_on_disk,
    make_layouts,
    measurements_differ_bytes,
    rates,
    slack_bytes,
)
from outsize.train.kept_profiles import keep_profile, kept_profile
from outsize.train.kernels import TrainKernels
from outsize.train.measurable import surely_measurable
from outsize.train.optimizer import make_optimizer
from outsize.train.options import TrainOptions
from outsize.train.profile import profile_layers
from outsize.train.profiled import Profile
from outsize.train.refusal import hopeless, refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A planned run.

    Attributes:
        model: the layered model.
        layout: its regions.
        kernels: its arithmetic.
        profile: what was measured of it.
        machine: rates of the machine and the update rate of this model's layers.
        planned: the plan and its prediction.
        budget_bytes: host budget of the whole process.
        predicted_host_bytes: predicted peak of the process.
    """

    model: LayeredModel
    layout: Layout
    kernels: TrainKernels
    profile: Profile
    machine: Lanes
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
        three tenths of the slack.
        """
        expected_bytes = self.profile.fixed_bytes + self.planned.plan.arena_bytes
        return expected_bytes + slack_bytes(self.layout, self.profile) * 3 // 10


def plan_session(
    model: LayeredModel,
    options: TrainOptions,
    sample: Callable[[int], Sequence[Batch]],
    *,
    machine: MachineProfile,
    budget_bytes: int,
    disk_bytes: int,
    floor_bytes: int,
    chosen_span: int | None,
) -> Session:
    """Profile the model's layers on real rows and plan the step.

    Micro-batches are tried from the preferred one down to single rows; the first that fits is
    taken, so that the same request gives the same result whatever was timed.

    Args:
        model: the model.
        options: of the run.
        sample: gives some micro-batches of so many real rows each.
        machine: what is known of the machine and of the disk that the run's files lie on.
        budget_bytes: host budget of the whole process.
        disk_bytes: room for the state file, the journal and the logs.
        floor_bytes: host bytes that were taken before this process grew.
        chosen_span: elements of a span that a state file has already; None for a new one.

    Raises:
        UsageError: the options contradict the model.
        BudgetError: no plan fits, with remedies that do.
    """
    trim_heap()
    drop_file_pages()
    asked = _Asked(
        model=model,
        options=options,
        sample=sample,
        machine=machine,
        budget_bytes=budget_bytes,
        fits=fits_on_disk(disk_bytes, evaluates=options.evaluates),
        baseline_bytes=resident_bytes(),
    )
    found: Session | Callable[[], BudgetError] | None = None
    for layout in _layouts(model, options, machine, budget_bytes, chosen_span):
        found = hopeless(layout, options, budget_bytes) or asked.plan(layout, floor_bytes)
        if isinstance(found, Session):
            return found
    assert found is not None
    raise found()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What `plan_session` was asked; `baseline_bytes` were resident before any layer ran."""

    model: LayeredModel
    options: TrainOptions
    sample: Callable[[int], Sequence[Batch]]
    machine: MachineProfile
    budget_bytes: int
    fits: Callable[[Choice], bool]
    baseline_bytes: int

    def plan(self, layout: Layout, floor_bytes: int) -> Session | Callable[[], BudgetError]:
        """Measure and plan one shape of the step; returns what refuses it where it does not fit."""
        optimizer = make_optimizer(self.options)
        batches = self.sample(layout.workload.micro_batch_rows)
        profile = self._known_not_to_fit(layout)
        if profile is None:
            profile = self.measure(layout, TrainKernels(self.model, layout, optimizer), batches)
        lanes = rates(self.machine, profile)
        one = candidate(layout, profile, self.options)
        floor_bytes = max(floor_bytes, peak_resident_bytes())
        try:
            if floor_bytes > self.budget_bytes:
                raise DoesNotFitError(floor_bytes)
            choice = choose((one,), self.budget_bytes, lanes, self.options.objective, self.fits)
        except DoesNotFitError:
            return partial(
                refusal,
                self.model,
                self.options,
                batches[0],
                self.know,
                self.budget_bytes,
                floor_bytes,
                one,
                profile,
            )
        chosen = choice.candidate.layout
        return Session(
            model=self.model,
            layout=chosen,
            kernels=TrainKernels(self.model, chosen, optimizer),
            profile=profile,
            machine=lanes,
            planned=choice.planned,
            budget_bytes=self.budget_bytes,
            predicted_host_bytes=max(floor_bytes, choice.host_bytes),
        )

    def _known_not_to_fit(self, layout: Layout) -> Profile | None:
        """Return what was measured of a shape before, if measuring it again could not make it
        fit.
        """
        known = self._known(layout)
        if known is None:
            return None
        least_bytes = smallest_budget_bytes((candidate(layout, known, self.options),))
        least_bytes -= measurements_differ_bytes(known)
        return known if least_bytes > self.budget_bytes else None

    def _known(self, layout: Layout) -> Profile | None:
        known = kept_profile(layout, self.machine.fingerprint, self.options.threads)
        if known is None:
            return None
        return replace(
            known,
            baseline_bytes=self.baseline_bytes,
            fixed_bytes=self.baseline_bytes + known.temporaries_bytes,
        )

    def know(self, layout: Layout, kernels: TrainKernels, batches: Sequence[Batch]) -> Profile:
        """Return what was measured of a shape before, or else measure it."""
        return self._known(layout) or self.measure(layout, kernels, batches)

    def measure(self, layout: Layout, kernels: TrainKernels, batches: Sequence[Batch]) -> Profile:
        """Profile a step's layers in what earlier ones left of the budget; keeps what it finds."""
        trim_heap()
        drop_file_pages()
        profile = profile_layers(
            self.model,
            layout,
            kernels,
            batches,
            baseline_bytes=self.baseline_bytes,
            budget_bytes=self.budget_bytes,
        )
        return keep_profile(layout, self.machine.fingerprint, self.options.threads, profile)


def _layouts(
    model: LayeredModel,
    options: TrainOptions,
    machine: MachineProfile,
    budget_bytes: int,
    chosen_span: int | None,
) -> Iterator[Layout]:
    """Yield the shapes of the step that can be measured inside the budget."""
    num_threads = options.threads or machine.host.num_cores
    found = tuple(
        make_layouts(options, model.spec, num_threads=num_threads, chosen_span=chosen_span)
    )
    for layout in found:
        known = kept_profile(layout, machine.fingerprint, options.threads)
        if surely_measurable(layout, found, known, resident_bytes(), budget_bytes):
            yield layout
