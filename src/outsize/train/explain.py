"""The plan in words: the rows of the table that a user sees before a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outsize.quantities import format_bytes, format_rate, format_seconds

if TYPE_CHECKING:
    from outsize.train.launch import Launch
    from outsize.train.run import Planning


def plan_rows(planning: Planning, inputs: Launch) -> tuple[tuple[str, str], ...]:
    """Return label and text of each fact, in the order to show."""
    session = planning.session
    prediction, workload = session.prediction, session.layout.workload
    roles = ", ".join(f"{name} {format_bytes(size)}" for name, size in session.roles().items())
    peak = planning.predicted_peak_bytes
    total_s = prediction.step_s * planning.num_steps
    return (
        ("model", f"{inputs.folder.options.model}, {session.layout.model.num_elements / 1e6:.1f} M parameters"),
        (
            "step",
            f"{workload.tokens_per_step} tokens = {workload.num_micro_batches} micro-batches of "
            f"{workload.micro_batch_rows} x {workload.seq_length}, {workload.dtype}",
        ),
        ("host peak", f"{format_bytes(peak.host)} of {format_bytes(inputs.host_budget_bytes)}"),
        ("  of that", roles),
        ("disk peak", f"{format_bytes(peak.disk)} of {format_bytes(inputs.disk_budget_bytes)}"),
        (
            "traffic a step",
            f"{format_bytes(prediction.bytes_read)} read at "
            f"{format_rate(session.machine.read_bytes_per_s)}, "
            f"{format_bytes(prediction.bytes_written)} written at "
            f"{format_rate(session.machine.write_bytes_per_s)}",
        ),
        (
            "step time",
            f"{format_seconds(prediction.step_s)}, of it {format_seconds(prediction.exposed_io_s)} "
            f"waiting for the disk; limited by {prediction.limited_by}",
        ),
        ("whole run", f"{planning.num_steps} steps, about {format_seconds(total_s)}"),
        ("commits", "every step" if session.planned.plan.commits_every_step else "at most every "
         f"{format_seconds(inputs.folder.options.commit_seconds)} of work"),
    )
