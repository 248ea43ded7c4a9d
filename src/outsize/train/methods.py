"""What each method would take of a run that leaves the choice to the planner."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from outsize.formats.model_spec import KnownModel
from outsize.plan.residency import DoesNotFitError
from outsize.quantities import format_bytes, format_seconds
from outsize.results import TierBytes
from outsize.spec.adapter import adapt
from outsize.spec.machine import MachineProfile
from outsize.train.adapter import adapter_settings, packing
from outsize.train.describe import disk_roles
from outsize.train.options import PlanOptions
from outsize.train.plan_result import MethodPrice
from outsize.train.planner import Planner
from outsize.train.state_file import plan_lists
from outsize.values import MethodType

ORDER: tuple[MethodType, ...] = ("full", "lora", "qlora")
"""From the one that can learn most to the one that takes least."""


def with_method(known: KnownModel, options: PlanOptions) -> KnownModel:
    """Return what is known of a model with the adapters that the options ask for.

    Raises:
        UsageError: the adapters fit no matrix of it.
    """
    settings = adapter_settings(options)
    if settings is None:
        return known
    return replace(known, spec=adapt(known.spec, settings, packing(options)))


def prices(
    options: PlanOptions,
    known: KnownModel,
    machine: MachineProfile,
    budget: TierBytes,
    other: Mapping[str, int],
) -> tuple[MethodPrice, ...]:
    """Plan a run by each method that may be chosen, the preferred one first.

    Args:
        options: of the run.
        known: the model as it is.
        machine: to plan for.
        budget: of the run.
        other: bytes on disk beside state file, journal and logs, by role.
    """
    asked = possible(options, has_weights=known.files.kind != "config")
    return tuple(
        _price(replace(options, method=method), known, machine, budget, other) for method in asked
    )


def possible(options: PlanOptions, *, has_weights: bool) -> tuple[MethodType, ...]:
    """Return the methods that may be chosen, the preferred one first: those that the options speak
    of, and for a model without weights, whose adapters would be of no use, the whole.
    """
    if options.quantization != "nf4":
        return ("qlora",)
    if options.asks_for_adapters:
        return ("lora", "qlora")
    return ORDER if has_weights else ("full",)


def _price(
    options: PlanOptions,
    known: KnownModel,
    machine: MachineProfile,
    budget: TierBytes,
    other: Mapping[str, int],
) -> MethodPrice:
    adapted = with_method(known, options)
    num_trainable = adapted.spec.num_trainable
    planner = Planner(options, adapted, machine, None)
    try:
        _, choice = planner.find(budget, other)
    except DoesNotFitError:
        return MethodPrice(
            method=options.method, num_trainable=num_trainable, host_bytes=planner.least_bytes()
        )
    layout, planned = choice.candidate.layout, choice.planned
    disk_bytes = sum(disk_roles(layout, plan_lists(planned.plan), other).values())
    return MethodPrice(
        method=options.method,
        num_trainable=num_trainable,
        host_bytes=choice.host_bytes,
        disk_bytes=disk_bytes,
        step_s=planned.prediction.step_s,
        bytes_written=planned.prediction.bytes_written,
        fits=disk_bytes <= budget.disk,
    )


def best_method(found: Sequence[MethodPrice]) -> MethodType:
    """Return the first method that fits; where none does, the one that needs least memory."""
    fitting = [price.method for price in found if price.fits]
    return fitting[0] if fitting else min(found, key=lambda price: price.host_bytes).method


def price_rows(found: Sequence[MethodPrice]) -> tuple[tuple[str, str], ...]:
    """Return a label and a text for each method, in the order to show."""
    taken = best_method(found) if any(price.fits for price in found) else None
    return tuple(
        (f"method {price.method}", _words(price) + (": taken" if price.method == taken else ""))
        for price in found
    )


def _words(price: MethodPrice) -> str:
    trained = f"{price.num_trainable / 1e6:,.1f} M parameters trained"
    if price.step_s is None or price.disk_bytes is None or price.bytes_written is None:
        return f"needs {format_bytes(price.host_bytes)} of memory; {trained}"
    disk = f"{format_bytes(price.disk_bytes)} of disk"
    if not price.fits:
        return f"needs {disk}; {trained}"
    return (
        f"{format_bytes(price.host_bytes)}, {disk}, {format_seconds(price.step_s)} and "
        f"{format_bytes(price.bytes_written)} written a step, {trained}"
    )
