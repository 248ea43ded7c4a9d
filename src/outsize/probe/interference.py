"""What transfers cost the arithmetic beside them: processor time and memory bandwidth.

A fixed amount of products runs alone and then while both lanes of a disk are busy, several times;
the time that is lost, over the bytes that were moved meanwhile, is the cost of one byte. Called
through `isolate.run_isolated`.
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outsize.machines.records import from_json
from outsize.probe.disk_blocks import both_ways
from outsize.probe.host import start_torch
from outsize.probe.scratch import Scratch, scratch_file
from outsize.probe.sizes import InterferenceSizes
from outsize.probe.stopwatch import Stopwatch
from outsize.probe.traffic import Background, Traffic, fill


def measure_interference(folder: str, sizes: dict[str, Any], threads: int | None) -> dict[str, Any]:
    """Return `compute_loss_s_per_byte` and the bytes that were read and written for it."""
    start_torch(threads)
    wanted, watch = from_json(InterferenceSizes, sizes), Stopwatch()
    with scratch_file(Path(folder), wanted.disk, lambda text: None) as scratch:
        _write_all(scratch, wanted, watch)
        losses = losses_s_per_byte(_work(wanted, watch), scratch, wanted.num_rounds, watch)
        counters = scratch.store.counters()
    return {
        "compute_loss_s_per_byte": max(0.0, statistics.median(losses)),
        "scratch_bytes": scratch.num_bytes,
        "bytes_read": counters.bytes_read,
        "bytes_written": counters.bytes_written,
    }


def losses_s_per_byte(
    work: Callable[[], object], scratch: Scratch, num_rounds: int, watch: Stopwatch
) -> list[float]:
    """Return the seconds that `work` loses for each byte moved beside it, round by round.

    A round can be below 0 when something else disturbed its quiet half.
    """
    losses = []
    for _ in range(num_rounds):
        alone_s = watch.seconds(work)
        with Background(*both_ways(scratch)) as traffic:
            start_bytes = traffic.finished_bytes
            beside_s = watch.seconds(work)
            moved_bytes = traffic.finished_bytes - start_bytes
        losses.append((beside_s - alone_s) / moved_bytes if moved_bytes else 0.0)
    return losses


def _write_all(scratch: Scratch, sizes: InterferenceSizes, watch: Stopwatch) -> None:
    """Write what will be read, as much of it as a slow disk takes in a while."""
    names = scratch.sections[max(scratch.sections)]
    traffic = Traffic(scratch.store.start_write, names, scratch.write_buffer)
    del names[fill(traffic, len(names), 4 * sizes.disk.pass_s, watch.clock) :]


def _work(sizes: InterferenceSizes, watch: Stopwatch) -> Callable[[], object]:
    """Return products that take about `work_s` when they are alone."""
    import torch
    from torch.nn.functional import linear

    tokens = torch.full((sizes.rows, sizes.shape.inner), 0.01, dtype=torch.bfloat16)
    weight = torch.full((sizes.shape.columns, sizes.shape.inner), 0.01, dtype=torch.bfloat16)
    one_s = watch.median_s(lambda: linear(tokens, weight), sizes.work_s / 2)
    num_calls = max(1, round(sizes.work_s / one_s))

    def work() -> None:
        for _ in range(num_calls):
            linear(tokens, weight)

    return work
