"""The plan in words: the rows of the table that a user sees before a run."""

from outsize.quantities import format_bytes, format_rate, format_seconds
from outsize.results import TierBytes
from outsize.train.session import Session


def plan_rows(
    session: Session,
    *,
    model: str,
    num_steps: int,
    commit_seconds: float,
    predicted: TierBytes,
    budget: TierBytes,
) -> tuple[tuple[str, str], ...]:
    """Return label and text of each fact, in the order to show."""
    prediction, workload = session.prediction, session.layout.workload
    roles = ", ".join(f"{name} {format_bytes(size)}" for name, size in session.roles().items())
    commits = f"at most every {format_seconds(commit_seconds)} of work"
    if session.planned.plan.commits_every_step:
        commits = "every step"
    return (
        ("model", f"{model}, {session.layout.model.num_elements / 1e6:.1f} M parameters"),
        (
            "step",
            f"{workload.tokens_per_step} tokens = {workload.num_micro_batches} micro-batches of "
            f"{workload.micro_batch_rows} x {workload.seq_length}, {workload.dtype}",
        ),
        ("host peak", f"{format_bytes(predicted.host)} of {format_bytes(budget.host)}"),
        ("  of that", roles),
        ("disk peak", f"{format_bytes(predicted.disk)} of {format_bytes(budget.disk)}"),
        ("read a step", _traffic(prediction.bytes_read, session.machine.read_bytes_per_s)),
        ("written a step", _traffic(prediction.bytes_written, session.machine.write_bytes_per_s)),
        (
            "step time",
            f"{format_seconds(prediction.step_s)}, of it "
            f"{format_seconds(prediction.exposed_io_s)} waiting for the disk; "
            f"limited by {prediction.limited_by}",
        ),
        ("whole run", f"{num_steps} steps, {format_seconds(prediction.step_s * num_steps)}"),
        ("commits", commits),
    )


def _traffic(size_bytes: int, rate: float) -> str:
    return f"{format_bytes(size_bytes)} at {format_rate(rate)}"
