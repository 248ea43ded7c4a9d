"""Plan a run on a machine with an accelerator: three tiers, device above host above disk.

Nothing executes such a plan yet; it tells what a machine that is not at hand would make of a model.
Read `plan/tiers.py` for the plan itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from outsize.errors import BudgetError, Contributor, Remedy, UsageError
from outsize.formats.model_spec import KnownModel
from outsize.plan.actions import Tier
from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.plan.search import rank
from outsize.plan.simulate import Prediction
from outsize.plan.tiers import TieredStep, estimate_tiers, plan_tiers
from outsize.results import TierBytes
from outsize.spec.machine import MachineProfile
from outsize.spec.tensor import PAGE_BYTES
from outsize.train.budgets import disk_refusal
from outsize.train.describe_device import FoundStep, describe_device, fixed_roles
from outsize.train.fit import span_elements
from outsize.train.options import PlanOptions
from outsize.train.plan_result import PlanResult
from outsize.train.profiled import Profile, expected_profile
from outsize.train.remedies import alternatives, subject
from outsize.train.totals import Steps
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
        UsageError: the objective is memory.
        BudgetError: it fits neither the device nor the host.
    """
    _refuse_memory(options, machine)
    planner = _Planner(options, known, machine, budget.host)
    found = planner.best()
    result = describe_device(options, machine, budget, other, steps, found)
    if result.predicted_peak_bytes.disk > budget.disk:
        free_bytes = machine.disk.free_bytes
        raise disk_refusal(
            subject(options),
            result.disk_bytes,
            budget.disk,
            free_bytes,
            machine.name,
            resumed=options.resume is not None,
        )
    return result


def _refuse_memory(options: PlanOptions, machine: MachineProfile) -> None:
    if options.objective == "memory":
        raise UsageError(
            f"--objective memory does not know machines with an accelerator such as "
            f"{machine.name} yet; use time or writes, or name a machine without one."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A layout, what its layers take, and the memory that it leaves to the plan; below 0 where what
    is there with any plan is too much already.
    """

    layout: Layout
    profile: Profile
    device_bytes: int
    host_bytes: int


_Failure = tuple[DoesNotFitError, _Shape]


def _needed_bytes(failure: _Failure) -> int:
    """Return what a shape that does not fit would need in all, on the tier that is too small."""
    error, shape = failure
    return error.needed_bytes + sum(fixed_roles(shape.layout, shape.profile, error.tier).values())


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
        """Return the best shape by estimate that can be planned.

        Raises:
            BudgetError: none can.
        """
        failures: list[_Failure] = []
        estimates: list[tuple[Prediction, _Shape]] = []
        for layout in _layouts(self._options, self._known):
            shape = self._shape(layout)
            try:
                estimates.append((self._estimate(shape), shape))
            except DoesNotFitError as error:
                failures.append((error, shape))
        for _, shape in sorted(estimates, key=lambda one: rank(one[0], self._options.objective)):
            try:
                step = self._plan(shape)
            except DoesNotFitError as error:
                failures.append((error, shape))
                continue
            return FoundStep(layout=shape.layout, profile=shape.profile, step=step)
        raise self._refusal(failures)

    def _shape(self, layout: Layout) -> _Shape:
        processor = self._accelerator.processor
        profile = expected_profile(layout, self._known.blocks, self._machine, processor)
        on_device = fixed_roles(layout, profile, "device")
        on_host = fixed_roles(layout, profile, "host")
        return _Shape(
            layout=layout,
            profile=profile,
            device_bytes=_pages(processor.memory_bytes - sum(on_device.values())),
            host_bytes=_pages(self._host_bytes - sum(on_host.values())),
        )

    def _estimate(self, shape: _Shape) -> Prediction:
        return estimate_tiers(
            shape.layout,
            device_bytes=shape.device_bytes,
            host_bytes=shape.host_bytes,
            machine=self._machine.tier_lanes,
            costs=shape.profile.costs,
            objective=self._options.objective,
        )

    def _plan(self, shape: _Shape) -> TieredStep:
        return plan_tiers(
            shape.layout,
            device_bytes=shape.device_bytes,
            host_bytes=shape.host_bytes,
            machine=self._machine.tier_lanes,
            costs=shape.profile.costs,
            objective=self._options.objective,
        )

    def _refusal(self, failures: list[_Failure]) -> BudgetError:
        """Return the error for a request that does not fit, with requests that do: on the host if
        the device was ever large enough.
        """
        on_host = [failure for failure in failures if failure[0].tier == "host"]
        least = min(on_host or failures, key=_needed_bytes)
        error, shape = least
        memory = {"device": self._accelerator.processor.memory_bytes, "host": self._host_bytes}
        roles = {
            **fixed_roles(shape.layout, shape.profile, error.tier),
            "largest action": error.needed_bytes,
        }
        return BudgetError(
            subject(self._options),
            needed_bytes=_needed_bytes(least),
            budget_bytes=memory[error.tier],
            tier=error.tier,
            contributors=tuple(
                Contributor(role=role, size_bytes=size) for role, size in roles.items() if size
            ),
            remedies=tuple(self._remedies(error.tier)),
        )

    def _remedies(self, tier: Tier) -> Iterator[Remedy]:
        """Yield the requests that fit with their smallest shape, with what they need on a tier."""
        for change, asked in alternatives(self._options):
            try:
                *_, layout = _layouts(asked, self._known)
                shape = self._shape(layout)
                self._estimate(shape)
                self._plan(shape)
            except (DoesNotFitError, UsageError):  # the latter: too many micro-batches for a plan
                continue
            yield Remedy(change=change, needed_bytes=self._least_bytes(shape, tier))

    def _least_bytes(self, shape: _Shape, tier: Tier) -> int:
        """Return the least that a shape which fits would need on a tier: what is said to be needed
        where there is no room at all.
        """
        without = {"device_bytes": -1} if tier == "device" else {"host_bytes": -1}
        try:
            self._estimate(replace(shape, **without))
        except DoesNotFitError as error:
            return _needed_bytes((error, shape))
        raise AssertionError("an estimate without any room")


def _layouts(options: PlanOptions, known: KnownModel) -> Iterator[Layout]:
    """Yield the shapes to try, the preferred one first: a micro-batch of about 1024 tokens and a
    large one, with products kept and recomputed.
    """
    usual = make_workload(options, known.spec)
    workloads = [usual[0]]
    if options.micro_batch_size is None:
        rows = usual[0].rows_per_step
        most = max(1, _DEVICE_TOKENS // usual[0].seq_length)
        large = max(n for n in range(1, min(rows, most) + 1) if rows % n == 0)
        if large > usual[0].micro_batch_rows:
            workloads.insert(0, replace(usual[0], micro_batch_rows=large))
    for workload in workloads:
        layout = Layout(
            model=known.spec,
            workload=workload,
            span_elements=span_elements(known.spec),
            state_copies=options.state_copies,
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
    return size_bytes // PAGE_BYTES * PAGE_BYTES
