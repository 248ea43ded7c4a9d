"""DeepSpeed ZeRO-3 on the processor, as the peer that streaming is compared with.

    python bench/deepspeed_step.py FOLDER ROWS STEPS MICRO_BATCH TOKENS_PER_STEP OFFLOAD

OFFLOAD is `cpu`, or `nvme:DIR` with a folder for the optimizer's state. bf16 weights, fp32 masters
and moments as DeepSpeed keeps them, recompute as its guides advise for large models. Needs
`pip install deepspeed ninja`, a C++ compiler, for `nvme` the headers of libaio, and the environment
that `train_vs_inmemory.py` sets; see `step_loop.py`.
"""

import deepspeed
import torch

from outsize.models.registry import plain_model
from step_loop import Asked, run_steps


def main() -> None:
    asked = Asked.from_command_line()
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(0)
    model = plain_model(asked.folder, torch.bfloat16)
    model.train()
    model.gradient_checkpointing_enable()
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=settings(asked)
    )

    def backward(loss: torch.Tensor) -> None:
        engine.backward(loss)
        engine.step()  # updates after the step's last micro-batch

    run_steps("deepspeed", asked, engine, backward, update=lambda: None)


def settings(asked: Asked) -> dict[str, object]:
    device, _, folder = asked.more[0].partition(":")
    place: dict[str, object] = {"device": device}
    if device == "nvme":
        place |= {"nvme_path": folder, "buffer_count": 5, "pin_memory": False}
    return {
        "train_micro_batch_size_per_gpu": asked.micro_batch,
        "gradient_accumulation_steps": asked.num_micro_batches,
        "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "weight_decay": 0.0}},
        "zero_optimization": {
            "stage": 3,
            # Its buffers hold whole groups: five of the usual 10^9 elements are 20 GB.
            "sub_group_size": 100_000_000,
            "offload_optimizer": place,
            "offload_param": {"device": "cpu"},
        },
    }


main()
