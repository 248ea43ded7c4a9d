"""Plans of one model's step on one machine, of all micro-batches that the step may have."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from outsize.formats.model_spec import KnownModel
from outsize.plan.choose import Candidate, Choice, choose, smallest_budget_bytes
from outsize.plan.layout import Layout
from outsize.plan.outlook import everything_bytes, frontier
from outsize.plan.residency import DoesNotFitError
from outsize.plan.search import Objective
from outsize.results import TierBytes
from outsize.runtime.events import OnEvent, PhaseAdvanced
from outsize.spec.machine import Lanes, MachineProfile
from outsize.train.budgets import LEAST_HOST_BYTES
from outsize.train.describe import frontier_point
from outsize.train.fit import candidate, fits_on_disk, make_layouts, rates
from outsize.train.kept_profiles import kept_profile
from outsize.train.measurable import surely_measurable
from outsize.train.options import PlanOptions, TrainOptions
from outsize.train.plan_result import FrontierPoint
from outsize.train.profiled import Profile, expected_profile
from outsize.train.remedies import no_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One shape that the step can have: what the planner is offered, and where it comes from."""

    candidate: Candidate
    profile: Profile


class Planner:
    """Plans one model's step on one machine.

    Args:
        options: of the run.
        known: the model.
        machine: the machine.
        chosen_span: elements of a span that a run has already; None for a new one.
    """

    def __init__(
        self,
        options: PlanOptions,
        known: KnownModel,
        machine: MachineProfile,
        chosen_span: int | None,
    ) -> None:
        self._options = options
        self._known = known
        self._machine = machine
        self._most_bytes = None if options.machine is None else machine.host.memory_bytes
        num_threads = options.threads or machine.host.num_cores
        self._layouts = tuple(
            make_layouts(options, known.spec, num_threads=num_threads, chosen_span=chosen_span)
        )

    def choose(self, budget: TierBytes, other: Mapping[str, int]) -> tuple[Shape, Choice]:
        """Return the shape with the preferred micro-batch that fits, and its plan.

        Args:
            budget: of the run; a plan that needs more disk is returned where no other fits.
            other: bytes on disk beside state file, journal and logs, by role.

        Raises:
            BudgetError: none fits.
        """
        try:
            return self.find(budget, other)
        except DoesNotFitError as error:
            raise no_plan(
                self._options,
                [(one.candidate, one.profile) for one in self._shapes],
                budget.host,
                self.shape_of,
                LEAST_HOST_BYTES,
                self._most_bytes,
            ) from error

    def find(self, budget: TierBytes, other: Mapping[str, int]) -> tuple[Shape, Choice]:
        """Do what `choose` does, without looking for what would fit instead.

        Raises:
            DoesNotFitError: none fits.
        """
        if budget.host < LEAST_HOST_BYTES:  # a run refuses it whatever is planned
            raise DoesNotFitError(LEAST_HOST_BYTES)
        disk_bytes = budget.disk - sum(other.values())
        return self._preferred(budget.host, disk_bytes, self._options.objective)

    def least_bytes(self) -> int:
        """Return the smallest host budget that any shape has a plan for."""
        least_bytes = smallest_budget_bytes([shape.candidate for shape in self._shapes])
        return max(LEAST_HOST_BYTES, least_bytes)

    def shape_of(self, asked: TrainOptions) -> Candidate:
        """Return the smallest shape of another request."""
        *_, layout = make_layouts(asked, self._known.spec)
        return self._shape(layout, asked).candidate

    def lanes(self, shape: Shape) -> Lanes:
        """Return the rates that the shape's step runs at."""
        return rates(self._machine, shape.profile)

    def frontier(self, disk_bytes: int, on_event: OnEvent) -> tuple[FrontierPoint, ...]:
        """Return what `choose` finds at growing budgets, from the smallest that has a plan to the
        one that holds everything, or the machine's memory if that is less. The plan with the least
        memory is the same at all of them, so that objective shows the fastest.

        Args:
            disk_bytes: room for the state file, the journal and the logs.
            on_event: told before each point.
        """
        asked = self._options.objective
        objective: Objective = "time" if asked == "memory" else asked
        fits = fits_on_disk(disk_bytes, evaluates=self._options.evaluates)

        def plan(budget_bytes: int) -> Choice:
            _, choice = self._preferred(budget_bytes, disk_bytes, objective)
            if not fits(choice):
                raise DoesNotFitError(budget_bytes)
            return choice

        candidates = [shape.candidate for shape in self._shapes]
        least_bytes = max(LEAST_HOST_BYTES, smallest_budget_bytes(candidates))
        most_bytes = min(everything_bytes(candidates[0]), self._machine.host.memory_bytes)
        found = frontier(
            plan,
            least_bytes,
            most_bytes,
            lambda done: on_event(PhaseAdvanced(phase="frontier", done=done)),
        )
        return tuple(frontier_point(budget_bytes, choice) for budget_bytes, choice in found)

    @cached_property
    def _shapes(self) -> tuple[Shape, ...]:
        return tuple(self._shape(layout, self._options) for layout in self._layouts)

    def _preferred(
        self, host_bytes: int, disk_bytes: int, objective: Objective
    ) -> tuple[Shape, Choice]:
        """Return the first shape that fits, and its plan.

        Raises:
            DoesNotFitError: none fits.
        """
        fits = fits_on_disk(disk_bytes, evaluates=self._options.evaluates)
        least: DoesNotFitError | None = None
        baseline_bytes = self._machine.baseline_bytes
        for shape, layout in zip(self._shapes, self._layouts, strict=True):
            if not surely_measurable(
                layout, self._layouts, shape.profile, baseline_bytes, host_bytes
            ):
                continue  # a run does not try it either
            try:
                offered, lanes = (shape.candidate,), self.lanes(shape)
                return shape, choose(offered, host_bytes, lanes, objective, fits)
            except DoesNotFitError as error:
                least = error
        assert least is not None
        raise least

    def _shape(self, layout: Layout, asked: TrainOptions) -> Shape:
        profile = None
        if self._machine.measured_at is not None:
            profile = kept_profile(layout, self._machine.fingerprint, asked.threads)
        if profile is None:
            profile = expected_profile(
                layout, self._known.blocks, self._machine, self._machine.host
            )
        return Shape(candidate=candidate(layout, profile, asked), profile=profile)
