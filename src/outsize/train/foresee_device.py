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
from outsize.plan.tiers import TieredStep, estimate_tiers, plan_tiers
from outsize.results import TierBytes
from outsize.spec.machine import MachineProfile
from outsize.train.budgets import disk_refusal
from outsize.train.describe import Steps
from outsize.train.describe_device import CONTEXT_BYTES, FoundStep, describe_device
from outsize.train.fit import slack_bytes, span_elements
from outsize.train.options import PlanOptions
from outsize.train.plan_result import PlanResult
from outsize.train.profiled import Profile, expected_profile
from outsize.train.remedies import alternatives, subject
from outsize.train.workload import make_workload

_DEVICE_TOKENS = 8192
"""A micro-batch that fills a large accelerator; tried beside the usual one."""


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
    planner = _Planner(options, known, machine, budget.host)
    found = planner.best()
    result = describe_device(options, machine, budget, other, steps, found)
    if result.predicted_peak_bytes.disk > budget.disk:
        free_bytes = machine.disk.free_bytes
        raise disk_refusal(subject(options), result.disk_bytes, budget.disk, free_bytes)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A layout, what its layers take, and the memory that it leaves to the plan."""

    layout: Layout
    profile: Profile
    device_bytes: int
    host_bytes: int


class _Planner:
    """Plans one request on one machine."""

    def __init__(
        self, options: PlanOptions, known: KnownModel, machine: MachineProfile, host_bytes: int
    ) -> None:
        assert machine.accelerator is not None
        self._options = options
        self._known = known
        self._machine = machine
        self._accelerator = machine.accelerator
        self._host_bytes = host_bytes

    def best(self) -> FoundStep:
        """Return the fastest shape by estimate that can be planned.

        Raises:
            BudgetError: none can.
        """
        failures: list[tuple[DoesNotFitError, _Shape]] = []
        estimates: list[tuple[float, _Shape]] = []
        for layout in _layouts(self._options, self._known):
            shape = self._shape(layout)
            try:
                estimates.append((self._estimate_s(shape), shape))
            except DoesNotFitError as error:
                failures.append((error, shape))
        for _, shape in sorted(estimates, key=lambda one: one[0]):
            try:
                step = self._plan(shape)
            except DoesNotFitError as error:
                failures.append((error, shape))
                continue
            return FoundStep(layout=shape.layout, profile=shape.profile, step=step)
        raise self._refusal(failures)

    def fits(self, options: PlanOptions) -> bool:
        """Tell whether another request can be planned with its smallest shape."""
        *_, layout = _layouts(options, self._known)
        try:
            self._plan(self._shape(layout))
        except DoesNotFitError:
            return False
        return True

    def _shape(self, layout: Layout) -> _Shape:
        processor = self._accelerator.processor
        profile = expected_profile(layout, self._known.blocks, self._machine, processor)
        temporaries = profile.fixed_bytes - profile.baseline_bytes
        host_fixed = profile.baseline_bytes + slack_bytes(layout, profile)
        return _Shape(
            layout=layout,
            profile=profile,
            device_bytes=_pages(processor.memory_bytes - CONTEXT_BYTES - temporaries),
            host_bytes=_pages(self._host_bytes - host_fixed),
        )

    def _estimate_s(self, shape: _Shape) -> float:
        return estimate_tiers(
            shape.layout,
            device_bytes=shape.device_bytes,
            host_bytes=shape.host_bytes,
            machine=self._machine.tier_lanes,
            costs=shape.profile.costs,
        ).step_s

    def _plan(self, shape: _Shape) -> TieredStep:
        return plan_tiers(
            shape.layout,
            device_bytes=shape.device_bytes,
            host_bytes=shape.host_bytes,
            machine=self._machine.tier_lanes,
            costs=shape.profile.costs,
            objective=self._options.objective,
        )

    def _refusal(self, failures: list[tuple[DoesNotFitError, _Shape]]) -> BudgetError:
        """Return the error for a request that fits neither tier, with requests that do."""
        error, shape = min(failures, key=lambda failure: failure[0].needed_bytes)
        profile = shape.profile
        on_device = error.tier == "device"
        fixed = (
            {
                "driver and libraries": CONTEXT_BYTES,
                "temporaries": profile.fixed_bytes - profile.baseline_bytes,
            }
            if on_device
            else {
                "libraries": profile.baseline_bytes,
                "slack": slack_bytes(shape.layout, profile),
            }
        )
        needed_bytes = error.needed_bytes + sum(fixed.values())
        budget_bytes = self._accelerator.processor.memory_bytes if on_device else self._host_bytes
        return BudgetError(
            subject(self._options),
            needed_bytes=needed_bytes,
            budget_bytes=budget_bytes,
            tier=error.tier,
            contributors=(
                *(Contributor(role=role, size_bytes=size) for role, size in fixed.items()),
                Contributor(role="largest action", size_bytes=error.needed_bytes),
            ),
            remedies=tuple(
                Remedy(change=change, needed_bytes=budget_bytes)
                for change, asked in alternatives(self._options)
                if self.fits(asked)
            ),
        )


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


def _pages(size_bytes: int) -> int:
    return max(0, size_bytes) // 4096 * 4096
