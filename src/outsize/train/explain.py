"""The plan in words: the rows of the table that a user sees before a run."""

from outsize.plan.outlook import Gain
from outsize.plan.roles import Activations
from outsize.quantities import format_bytes, format_seconds
from outsize.train.budgets import TWO_COPIES
from outsize.train.methods import price_rows
from outsize.train.plan_result import DevicePlan, PlanResult, Totals

Row = tuple[str, str]
NO_BREAK = "\N{NO-BREAK SPACE}"


def plan_rows(result: PlanResult) -> tuple[Row, ...]:
    """Return label and text of each fact, in the order to show."""
    predicted, budget = result.predicted_peak_bytes, result.budget_bytes
    return (
        ("model", f"{result.model}, {result.num_elements / 1e6:,.1f} M parameters"),
        *price_rows(result.methods),
        *_method(result),
        ("machine", f"{result.machine}; {result.machine_from}"),
        ("layers", result.layers_from),
        (
            "step",
            f"{result.tokens_per_step} tokens = {result.num_micro_batches} micro-batches of "
            f"{result.micro_batch_size} x {result.max_seq_length}, {result.dtype}",
        ),
        ("activations", _activations(result.activations)),
        ("host peak", f"{format_bytes(predicted.host)} of {format_bytes(budget.host)}"),
        ("  of that", _roles(result.host_bytes)),
        ("  at most", f"{format_bytes(result.everything_bytes)} would hold everything"),
        ("disk peak", f"{format_bytes(predicted.disk)} of {format_bytes(budget.disk)}"),
        ("  of that", _roles(result.disk_bytes)),
        *_device(result.device),
        *_lanes(result),
        ("commits", _commits(result)),
        *_total(result.total),
        *_gains(result),
    )


def _method(result: PlanResult) -> tuple[Row, ...]:
    if result.method == "full":
        return ()
    share = result.num_trainable / result.num_elements
    trained = f"{result.num_trainable:,} parameters in adapters ({share:.2%})"
    return (("method", f"{result.method}: {trained}, the rest is only read"),)


def _commits(result: PlanResult) -> str:
    if TWO_COPIES not in result.disk_bytes:
        return "in place: killed while a step changes the state, the run is lost"
    if result.commits_every_step:
        return "every step"
    return f"at most every {format_seconds(result.commit_seconds)} of work"


def _activations(found: Activations) -> str:
    parts = (
        (found.kept, "keep what their products return"),
        (found.offloaded, "take it to disk and back"),
        (found.recomputed, "compute it again"),
    )
    return "blocks: " + ", ".join(f"{count} {what}" for count, what in parts if count)


def _roles(sizes: dict[str, int]) -> str:
    """Name roles with their sizes; a line never breaks between a number and its unit."""
    return ", ".join(
        f"{role} {format_bytes(size).replace(' ', NO_BREAK)}" for role, size in sizes.items()
    )


def _device(device: DevicePlan | None) -> tuple[Row, ...]:
    if device is None:
        return ()
    predicted, budget = map(format_bytes, (device.predicted_peak_bytes, device.budget_bytes))
    copies = ", ".join(
        f"{format_bytes(size)} {way} in {format_seconds(seconds)}"
        for way, size, seconds in (
            ("to it", device.predicted_bytes_to_device, device.predicted_to_device_s),
            ("back", device.predicted_bytes_from_device, device.predicted_from_device_s),
        )
    )
    return (
        ("device peak", f"{predicted} of {budget}, {device.name}"),
        ("  of that", _roles(device.device_bytes)),
        ("  copies", f"{copies}; the optimizer runs on the {device.update_on}"),
        ("  note", "runs do not use accelerators yet; this is what one would do"),
    )


def _lanes(result: PlanResult) -> tuple[Row, ...]:
    step_s = result.predicted_step_s

    def lane(seconds: float) -> str:
        return f"{format_seconds(seconds)} busy ({seconds / step_s:.0%})"

    return (
        (
            "step time",
            f"{format_seconds(step_s)} ({result.predicted_tokens_per_s:,.0f} tokens/s), of it "
            f"{format_seconds(result.predicted_exposed_io_s)} {_waiting(result.device)}",
        ),
        ("  compute", lane(result.predicted_compute_s)),
        ("  read", f"{lane(result.predicted_read_s)}, {format_bytes(result.predicted_bytes_read)}"),
        (
            "  write",
            f"{lane(result.predicted_write_s)}, {format_bytes(result.predicted_bytes_written)}",
        ),
        ("  ahead", f"reads run up to {format_bytes(result.prefetch_bytes)} ahead"),
    )


def _waiting(device: DevicePlan | None) -> str:
    """Say what arithmetic waits for; an accelerator sees the disk through its copies only."""
    if device is None:
        return "waiting for the disk"
    host_updates = " and updates on the host" if device.update_on == "host" else ""
    return f"waiting for copies{host_updates}"


def _total(total: Totals | None) -> tuple[Row, ...]:
    if total is None:
        return (("whole run", "name --steps, or --data whose size can be told"),)
    count, wear = total.evaluations, ""
    evaluations = f", {count:,} evaluation{'s' if count > 1 else ''}" if count else ""
    if total.wear_fraction is not None:
        wear = f", {total.wear_fraction:.2%} of what the drive is rated for"
    return (
        (
            "rest of run" if total.done_steps else "whole run",
            f"{total.steps:,} steps ({total.steps_from}){evaluations}, "
            f"{format_seconds(total.seconds)}",
        ),
        (
            "  traffic",
            f"{format_bytes(total.bytes_read)} read, {format_bytes(total.bytes_written)} written"
            + wear,
        ),
        *((("  without", total.not_counted),) if total.not_counted is not None else ()),
    )


def _gains(result: PlanResult) -> tuple[Row, ...]:
    limit = f"the {result.limited_by} lane is busy longest"
    return (("limited by", limit), *(("  more", _gain(gain)) for gain in result.gains))


def _gain(gain: Gain) -> str:
    if gain.speedup is None:
        return f"{gain.change}: does not fit"
    return f"{gain.change}: {gain.speedup - 1:+.1%} tokens/s"
