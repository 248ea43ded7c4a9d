"""Plain PyTorch, everything in memory, at its best: the side that streaming is compared with.

    python bench/plain_step.py FOLDER ROWS STEPS MICRO_BATCH TOKENS_PER_STEP [compile]

Pure bf16 weights, fused AdamW, no recompute, no clipping, Transformers' own loss; see
`step_loop.py`.
"""

import torch

from outsize.models.registry import plain_model
from step_loop import Asked, run_steps


def main() -> None:
    asked = Asked.from_command_line()
    torch.manual_seed(0)
    model = plain_model(asked.folder, torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    run_steps(
        "plain",
        asked,
        torch.compile(model) if asked.more == ["compile"] else model,
        backward=lambda loss: (loss / asked.num_micro_batches).backward(),
        update=update,
    )


main()
