"""The steps of a side that everything is in memory of; `train_vs_inmemory.py` starts it.

Called as SCRIPT FOLDER ROWS STEPS MICRO_BATCH TOKENS_PER_STEP [MORE]. FOLDER holds the config, ROWS
the prepared data. The last line on stdout is JSON.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from outsize.store.budget import peak_resident_bytes
from outsize.train.data.rows import PackedRows
from outsize.train.data.sampler import StepSampler


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for; `more` are the words that only one side knows."""

    folder: Path
    rows: PackedRows
    steps: int
    micro_batch: int
    tokens_per_step: int
    more: list[str]

    @classmethod
    def from_command_line(cls) -> Self:
        """Read it."""
        folder, data, *numbers = sys.argv[1:6]
        steps, micro_batch, tokens_per_step = map(int, numbers)
        return cls(
            folder=Path(folder),
            rows=PackedRows(data),
            steps=steps,
            micro_batch=micro_batch,
            tokens_per_step=tokens_per_step,
            more=sys.argv[6:],
        )

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches of a step."""
        return self.tokens_per_step // self.rows.seq_length // self.micro_batch


def run_steps(
    name: str,
    asked: Asked,
    model: Callable[..., Any],
    backward: Callable[[torch.Tensor], object],
    update: Callable[[], object],
) -> None:
    """Run all steps and print what they took; `backward` gets each micro-batch's mean loss, and
    `update` comes after the last one.
    """
    per_step = asked.num_micro_batches * asked.micro_batch
    sampler = StepSampler(asked.rows.num_rows, per_step, 42)
    times = []
    for step in range(asked.steps):
        start_s = time.perf_counter()
        indices = sampler.rows(step)
        for first in range(0, per_step, asked.micro_batch):
            batch = asked.rows.read(indices[first : first + asked.micro_batch])
            logits = model(
                input_ids=torch.from_numpy(batch.input_ids),
                position_ids=torch.from_numpy(batch.position_ids),
                use_cache=False,
            ).logits
            labels = torch.from_numpy(batch.labels)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
            backward(loss)
            del logits
        update()
        times.append(time.perf_counter() - start_s)
        print(
            f"  {name} step {step + 1}: {times[-1]:.2f} s, loss {loss.item():.3f}",
            file=sys.stderr,
            flush=True,
        )
    step_s = statistics.median(times[1:])
    result = {
        "tokens_per_s": asked.tokens_per_step / step_s,
        "step_s": step_s,
        "peak_bytes": peak_resident_bytes(),
    }
    print(json.dumps(result))
