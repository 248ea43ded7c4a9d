"""The plain side of one case, in a process of its own, and the comparison with what streaming left.

It trains the whole model in memory and then reads the streamed state tensor by tensor, so nothing
of the plain run is ever written.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from outsize.formats.hub import ModelFiles, open_weights
from outsize.models.initialise import initial_values
from outsize.models.layered import LayeredModel
from outsize.models.registry import build
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.spec.workload import TrainWorkload
from outsize.store.budget import peak_resident_bytes
from outsize.store.heap import keep_heap_pages
from outsize.train.data.rows import PackedRows
from outsize.train.data.sampler import StepSampler
from outsize.train.options import TrainOptions
from outsize.train.trainer import read_batch
from outsize.train.verify.compare import loss_difference, state_differences
from outsize.train.verify.plain import PlainTrainer
from outsize.train.verify.progress import step_finished
from outsize.train.verify.state import StoredState
from outsize.train.verify.streamed import model_files
from outsize.train.workload import make_workload


def train_plain(
    *,
    folder: str,
    options: dict[str, Any],
    files: dict[str, Any],
    streamed_losses: list[float],
    progress: str,
) -> dict[str, Any]:
    """Train in memory and compare.

    Args:
        folder: the run folder of the streamed side.
        options: fields of `TrainOptions`, the same as of the streamed side.
        files: fields of `ModelFiles`.
        streamed_losses: of the streamed side's steps.
        progress: the pipe of `progress.py`.

    Returns:
        Largest differences of `master`, `exp_avg`, `exp_avg_sq` and `losses`; `peak_bytes` of this
        process until the last step ended.

    Cost: the whole training state in host memory, at least 20 bytes a parameter.
    """
    keep_heap_pages()
    choices, run = TrainOptions(**options), Path(folder)
    if choices.threads is not None:
        torch.set_num_threads(choices.threads)
    model = build(run / "model", TORCH_DTYPES[choices.dtype])
    weights = initial_weights(model, model_files(files), choices.seed)
    num_steps = len(streamed_losses)
    trainer = PlainTrainer(run / "model", choices, num_steps, weights)
    workload, losses = make_workload(choices, model.spec)[0], []
    with PackedRows(run / "data") as rows:
        for step in range(num_steps):
            losses.append(train_step(trainer, rows, workload, choices, step))
            step_finished(Path(progress))
    peak_bytes = peak_resident_bytes()
    with closing(StoredState(run)) as stored:
        assert stored.step == num_steps
        found = state_differences(stored, trainer.spans())
    differences = found | {"losses": loss_difference(streamed_losses, losses)}
    return {**differences, "peak_bytes": peak_bytes}


def initial_weights(
    model: LayeredModel, files: ModelFiles, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor whole, from the model's files or freshly drawn."""
    source = open_weights(files)
    for index, layer in enumerate(model.spec.layers):
        if source is None:
            yield from initial_values(model, index, seed).items()
            continue
        for tensor in layer.tensors:
            values = source.read(tensor.name, 0, tensor.num_elements)
            yield tensor.name, torch.from_numpy(values).view(tensor.shape)
    if source is not None:
        source.close()


def train_step(
    trainer: PlainTrainer,
    rows: PackedRows,
    workload: TrainWorkload,
    options: TrainOptions,
    step: int,
) -> float:
    """Do one plain step on the rows that the streamed run takes for it; return its loss."""
    indices = StepSampler(rows.num_rows, workload.rows_per_step, options.seed).rows(step)
    size = workload.micro_batch_rows
    micro_batches = [indices[i : i + size] for i in range(0, len(indices), size)]
    return trainer.step(step, [read_batch(rows, found) for found in micro_batches])
