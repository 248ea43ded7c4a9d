"""PEFT's adapters in memory on the rows of an Outsize run: peft_run.py RUN lora|dora.

Same model in bfloat16, same micro-batches, learning rates and clipping; prints losses, the median
step and the peak as one line of JSON.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
from torch import nn

from outsize.formats.hub import open_weights, resolve
from outsize.models.initialise import initial_values
from outsize.models.registry import build, plain_model
from outsize.store.budget import peak_resident_bytes
from outsize.train.committed import read_layout
from outsize.train.data.rows import PackedRows
from outsize.train.data.sampler import StepSampler
from outsize.train.learning_rate import learning_rate
from outsize.train.run_folder import read_options
from outsize.train.trainer import read_batch

run = Path(sys.argv[1])
options, workload = read_options(run), read_layout(run).workload
module = plain_model(run / "model", torch.bfloat16)
source = open_weights(resolve(str(options.model)))
with torch.no_grad():
    for name, parameter in module.named_parameters():
        if source is not None:
            values = torch.from_numpy(source.read(name, 0, parameter.numel()))
            parameter.copy_(values.view(parameter.shape))
if source is None:
    layered = build(run / "model", torch.bfloat16)
    found = dict(module.named_parameters())
    with torch.no_grad():
        for index in range(len(layered.spec.layers)):
            for name, value in initial_values(layered, index, options.seed).items():
                found[name].copy_(value)
config = peft.LoraConfig(
    r=options.lora_r,
    lora_alpha=options.lora_alpha,
    target_modules="all-linear",
    use_dora=sys.argv[2] == "dora",
    task_type="CAUSAL_LM",
)
model = peft.get_peft_model(module, config)
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, weight_decay=options.weight_decay, fused=True)
num_steps = int(json.loads((run / "run.json").read_text())["num_steps"])
losses, seconds = [], []
with PackedRows(run / "data") as rows:
    for step in range(num_steps):
        start_s = time.perf_counter()
        indices = StepSampler(rows.num_rows, workload.rows_per_step, options.seed).rows(step)
        size, total = workload.micro_batch_rows, 0.0
        batches = [read_batch(rows, indices[i : i + size]) for i in range(0, len(indices), size)]
        count = sum(int((batch.labels != -100).sum()) for batch in batches)
        for batch in batches:
            logits = model(
                input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
            ).logits
            loss = nn.functional.cross_entropy(
                logits.float().flatten(0, 1), batch.labels.flatten(), reduction="sum"
            )
            (loss / count).backward()
            total += loss.item() / count
        if options.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(trained, options.max_grad_norm)
        optimizer.param_groups[0]["lr"] = learning_rate(options, step, num_steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total)
        seconds.append(time.perf_counter() - start_s)
print(
    json.dumps(
        {
            "losses": losses,
            "step_s": statistics.median(seconds),
            "peak_bytes": peak_resident_bytes(),
        }
    )
)
