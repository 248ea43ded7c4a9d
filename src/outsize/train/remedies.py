"""Refuse a host budget that no plan fits, with what is needed, what for, and what would fit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from outsize.errors import BudgetError, Contributor, Remedy, UsageError
from outsize.plan.choose import Candidate, smallest_budget_bytes
from outsize.plan.layout import Layout, role
from outsize.quantities import align_up
from outsize.train.fit import measurements_differ_bytes
from outsize.train.options import TrainOptions
from outsize.train.profiled import Profile

Options = TypeVar("Options", bound=TrainOptions)

_REMEDY_STEP_BYTES = 8 * 2**20
_LEAST_LENGTH = 32


def no_plan(
    options: TrainOptions,
    shapes: Sequence[tuple[Candidate, Profile]],
    budget_bytes: int,
    shape_of: Callable[[TrainOptions], Candidate | None],
    floor_bytes: int = 0,
    most_bytes: int | None = None,
) -> BudgetError:
    """Return the error for a budget that no plan of any shape fits.

    Args:
        options: of the run.
        shapes: the shapes that were tried, with what their layers take.
        budget_bytes: what is allowed.
        shape_of: gives the smallest shape of another request; None when it is hopeless.
        floor_bytes: what is needed with any plan, for example to prepare the run.
        most_bytes: the largest budget that may be asked for; None when there is no limit.
    """
    needed = [(smallest_budget_bytes((one,)), index) for index, (one, _) in enumerate(shapes)]
    least_bytes, index = min(needed)
    one, profile = shapes[index]
    needed_bytes = max(floor_bytes, least_bytes)
    more_bytes = measurements_differ_bytes(profile)
    remedies = []
    if most_bytes is None or _asked_bytes(needed_bytes, more_bytes) <= most_bytes:
        remedies.append(memory_remedy(needed_bytes, more_bytes))
    if floor_bytes <= budget_bytes:
        remedies += _other_remedies(options, budget_bytes, shape_of)
    return BudgetError(
        subject(options),
        needed_bytes=needed_bytes,
        budget_bytes=budget_bytes,
        tier="host",
        contributors=(
            Contributor(role="interpreter and libraries", size_bytes=profile.baseline_bytes),
            Contributor(role="temporaries", size_bytes=profile.temporaries_bytes),
            Contributor(role="slack", size_bytes=one.fixed_bytes - profile.fixed_bytes),
            *largest_roles(one.layout),
        ),
        remedies=tuple(remedies),
    )


def memory_remedy(needed_bytes: int, more_bytes: int = _REMEDY_STEP_BYTES) -> Remedy:
    """Return the budget to ask for: what is needed and `more_bytes`, rounded up."""
    asked_bytes = _asked_bytes(needed_bytes, more_bytes)
    return Remedy(change=f"--memory {asked_bytes // 2**20}MiB", needed_bytes=needed_bytes)


def _asked_bytes(needed_bytes: int, more_bytes: int) -> int:
    return align_up(needed_bytes + more_bytes, _REMEDY_STEP_BYTES)


def alternatives(options: Options) -> Iterator[tuple[str, Options]]:
    """Yield smaller requests to try when nothing fits, as what to add to the command and as
    options: what the user fixed left to the planner first, then shorter rows. A run that goes on
    keeps its micro-batch and rows.
    """
    if options.activations != "auto":
        yield "--activations auto", replace(options, activations="auto")
    if options.resume is not None:
        return
    if options.micro_batch_size is not None and options.micro_batch_size > 1:
        yield "--micro-batch-size 1", replace(options, micro_batch_size=1)
    for divisor in (2, 4):
        length = options.max_seq_length // divisor
        if length >= _LEAST_LENGTH and options.tokens_per_step % length == 0:
            yield f"--max-seq-length {length}", replace(options, max_seq_length=length)


def _other_remedies(
    options: TrainOptions, budget_bytes: int, shape_of: Callable[[TrainOptions], Candidate | None]
) -> Iterator[Remedy]:
    """Yield the smaller requests that fit; of shorter rows only the longest."""
    lengths = set()
    for change, asked in alternatives(options):
        if asked.max_seq_length != options.max_seq_length and lengths:
            continue
        try:
            one = shape_of(asked)
        except UsageError:  # more micro-batches than a plan takes
            continue
        needed_bytes = None if one is None else smallest_budget_bytes((one,))
        if needed_bytes is not None and needed_bytes <= budget_bytes:
            lengths |= {asked.max_seq_length} - {options.max_seq_length}
            yield Remedy(change=change, needed_bytes=needed_bytes)


def largest_roles(layout: Layout) -> tuple[Contributor, ...]:
    """Return the largest regions, one of each role: what the arena must hold at least in part."""
    largest: dict[str, int] = {}
    for name, size in layout.region_bytes.items():
        largest[role(name)] = max(size, largest.get(role(name), 0))
    ordered = sorted(largest.items(), key=lambda entry: -entry[1])[:3]
    return tuple(Contributor(role=f"largest {name}", size_bytes=size) for name, size in ordered)


def subject(options: TrainOptions) -> str:
    """Return what was asked for, in words."""
    return (
        f"Training {options.model} with tokens_per_step={options.tokens_per_step}, "
        f"max_seq_length={options.max_seq_length}"
    )
