"""DeepSpeed ZeRO-3 on the processor, as the peer that streaming is compared with.

    python bench/deepspeed_step.py FOLDER ROWS STEPS MICRO_BATCH TOKENS_PER_STEP OFFLOAD

FOLDER holds the config, ROWS the prepared data. OFFLOAD is `cpu`, or `nvme:DIR` with a folder for
the optimizer's state. bf16 weights, fp32 masters and moments as DeepSpeed keeps them, recompute as
its guides advise for large models. Needs `pip install deepspeed`, a C++ compiler, ninja, and the
environment that `train_vs_inmemory.py` sets. The last line on stdout is JSON.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import deepspeed
import torch

from outsize.models.registry import plain_model
from outsize.store.budget import peak_resident_bytes
from outsize.train.data.rows import PackedRows
from outsize.train.data.sampler import StepSampler


def main() -> None:
    folder, data = Path(sys.argv[1]), sys.argv[2]
    steps, micro, tokens = (int(word) for word in sys.argv[3:6])
    offload = sys.argv[6]
    rows = PackedRows(data)
    per_step = tokens // rows.seq_length
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(0)
    model = plain_model(folder, torch.bfloat16)
    model.train()
    model.gradient_checkpointing_enable()
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=model.parameters(),
        config=settings(micro, per_step // micro, offload),
    )
    sampler = StepSampler(rows.num_rows, per_step, 42)
    times = []
    for step in range(steps):
        start_s = time.perf_counter()
        indices = sampler.rows(step)
        for first in range(0, per_step, micro):
            batch = rows.read(indices[first : first + micro])
            logits = engine(
                input_ids=torch.from_numpy(batch.input_ids),
                position_ids=torch.from_numpy(batch.position_ids),
                use_cache=False,
            ).logits
            labels = torch.from_numpy(batch.labels)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
            engine.backward(loss)
            del logits
            engine.step()
        times.append(time.perf_counter() - start_s)
        print(
            f"  deepspeed step {step + 1}: {times[-1]:.2f} s, loss {loss.item():.3f}",
            file=sys.stderr,
        )
    step_s = statistics.median(times[1:])
    print(
        json.dumps(
            {
                "tokens_per_s": tokens / step_s,
                "step_s": step_s,
                "peak_bytes": peak_resident_bytes(),
            }
        )
    )


def settings(micro: int, num_micro_batches: int, offload: str) -> dict[str, object]:
    device, _, folder = offload.partition(":")
    place: dict[str, object] = {"device": device}
    if device == "nvme":
        place |= {"nvme_path": folder, "buffer_count": 5, "pin_memory": False}
    return {
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": num_micro_batches,
        "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "weight_decay": 0.0}},
        "zero_optimization": {
            "stage": 3,
            "offload_optimizer": place,
            "offload_param": {"device": "cpu"},
        },
    }


main()
