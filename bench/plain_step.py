"""Plain PyTorch, everything in memory, at its best: the side that streaming is compared with.

    python bench/plain_step.py FOLDER ROWS STEPS MICRO_BATCH TOKENS_PER_STEP [compile]

Pure bf16 weights, fused AdamW, no recompute, no clipping, Transformers' own loss. FOLDER holds the
config, ROWS the prepared data. The last line on stdout is JSON.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch

from outsize.models.registry import plain_model
from outsize.store.budget import peak_resident_bytes
from outsize.train.data.rows import PackedRows
from outsize.train.data.sampler import StepSampler


def main() -> None:
    folder, data, steps, micro = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rows = PackedRows(data)
    torch.manual_seed(0)
    model = plain_model(folder, torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    run = torch.compile(model) if sys.argv[6:] == ["compile"] else model
    tokens = int(sys.argv[5])
    per_step = tokens // rows.seq_length
    sampler = StepSampler(rows.num_rows, per_step, 42)
    times = []
    for step in range(steps):
        start_s = time.perf_counter()
        indices = sampler.rows(step)
        for first in range(0, per_step, micro):
            batch = rows.read(indices[first : first + micro])
            logits = run(
                input_ids=torch.from_numpy(batch.input_ids),
                position_ids=torch.from_numpy(batch.position_ids),
                use_cache=False,
            ).logits
            labels = torch.from_numpy(batch.labels)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
            (loss * micro / per_step).backward()
            del logits
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start_s)
        print(
            f"  plain step {step + 1}: {times[-1]:.2f} s, loss {loss.item():.3f}",
            file=sys.stderr,
            flush=True,
        )
    step_s = statistics.median(times[1:])
    result = {
        "tokens_per_s": tokens / step_s,
        "step_s": step_s,
        "peak_bytes": peak_resident_bytes(),
    }
    print(json.dumps(result))


main()
