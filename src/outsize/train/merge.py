"""Adapters become part of a model's weights: a new folder that Transformers loads.

The weights are rounded once. No PyTorch in here. Read `merger.py` for the arithmetic and
`merge_source.py` for where the adapters come from.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from outsize.errors import Contributor, RunError
from outsize.formats.export import SafetensorsWriter
from outsize.formats.model_spec import KnownModel
from outsize.isolate import run_isolated
from outsize.options import MergeOptions
from outsize.paths import is_file, user_path
from outsize.results import MergeResult, TierBytes
from outsize.runtime.events import OnEvent, PhaseAdvanced, phase
from outsize.store.budget import (
    host_limits,
    peak_children_bytes,
    peak_resident_bytes,
    resident_bytes,
)
from outsize.store.durable import write_whole_file
from outsize.train.budgets import LEAST_HOST_BYTES
from outsize.train.export import STORED_DTYPE, round_to_bfloat16
from outsize.train.merge_source import Adapters
from outsize.train.merged import open_merged
from outsize.train.merger import CHUNK_ELEMENTS, MergedWeights, row_chunks
from outsize.train.new_folder import copy_small_files, new_folder, refuse_used, require_budget

_WORK_BYTES = 64 * 2**20
"""Room for a chunk in fp32, what is added to it, its rounding, and page cache of what is written.
"""

_RECORD_NAME = "outsize_merged.json"


def run_merge(options: MergeOptions, on_event: OnEvent, start_s: float) -> MergeResult:
    """Write a model with adapters merged into it as a folder that Transformers loads.

    Raises:
        RunError: the output is not empty, or the adapters are merged into the model already.
        ModelError: the adapters are those of another model.
        BudgetError: the budget is too small; refused before anything is written.
        StorageError: the disk is full; what was written is removed.

    Cost: some rows of a matrix and its adapter in fp32 on host, about 64 MiB; for adapters that are
        no run's, before that a child process of about 400 MiB for config and tokenizer. On disk the
        model in its new dtype.
    """
    folder = user_path(str(options.output))
    refuse_used(folder)
    with closing(open_merged(options.adapter, options.model, on_event)) as merged:
        weights = merged.weights
        budget_bytes = options.memory_bytes or host_limits().free_bytes
        # Another model than the run's own has another config and tokenizer, perhaps.
        prepared = merged.adapters.prepared if options.model is None else None
        _check_budget(options, weights, prepared, budget_bytes)
        digest = _digest(merged.adapters)
        _refuse_twice(merged.known, digest)
        with new_folder(folder):
            _prepare(merged.model, prepared, folder, options.dtype)
            _write(weights, folder, options, on_event)
            record = {"adapters": [*_merged_before(merged.known), digest]}
            write_whole_file(folder / _RECORD_NAME, json.dumps(record).encode() + b"\n")
    return _result(options, merged.model, weights, folder, budget_bytes, time.monotonic() - start_s)


def _digest(adapters: Adapters) -> str:
    """Return what tells one set of adapters from another."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(adapters.tensors.items()):
        digest.update(name.encode())
        for start in range(0, tensor.num_elements, CHUNK_ELEMENTS):
            stop = min(start + CHUNK_ELEMENTS, tensor.num_elements)
            digest.update(memoryview(adapters.read(name, start, stop)).cast("B"))
    return digest.hexdigest()


def _merged_before(known: KnownModel) -> list[str]:
    path = known.files.folder / _RECORD_NAME
    if not is_file(path):
        return []
    try:
        found = json.loads(path.read_bytes())["adapters"]
        return [str(digest) for digest in found]
    except (OSError, ValueError, KeyError, TypeError):  # a note of ours that someone has changed
        return []


def _refuse_twice(known: KnownModel, digest: str) -> None:
    if digest in _merged_before(known):
        raise RunError(
            f"{known.files.folder} has these adapters merged into it already; "
            "name the model that they were trained on with --model."
        )


def _check_budget(
    options: MergeOptions, weights: MergedWeights, prepared: Path | None, budget_bytes: int
) -> None:
    process_bytes = resident_bytes()
    child_bytes = 0 if prepared is not None else LEAST_HOST_BYTES
    contributors = [
        Contributor(role="interpreter and libraries", size_bytes=process_bytes),
        Contributor(role="largest adapter", size_bytes=2 * weights.largest_bytes),
        Contributor(role="rows of a matrix", size_bytes=_WORK_BYTES),
    ]
    if child_bytes:
        contributors.append(Contributor(role="config and tokenizer", size_bytes=child_bytes))
    needed_bytes = process_bytes + max(child_bytes, 2 * weights.largest_bytes + _WORK_BYTES)
    require_budget(f"Merging {options.adapter}", needed_bytes, budget_bytes, tuple(contributors))


def _prepare(model: str, prepared: Path | None, folder: Path, dtype: str) -> None:
    """Write config and tokenizer: a run has them, else a child process that has the libraries for
    it makes them.
    """
    if prepared is not None:
        copy_small_files(prepared, folder)
        text = (prepared / "config.json").read_bytes()
    else:
        arguments = {"model": model, "folder": str(folder), "tokenizer": None}
        run_isolated("outsize.formats.prepare:prepare_for_training", arguments)
        text = (folder / "config.json").read_bytes()
    config: dict[str, Any] = json.loads(text)
    config.pop("torch_dtype", None)  # the older name of dtype
    content = json.dumps(config | {"dtype": dtype}, indent=2) + "\n"
    write_whole_file(folder / "config.json", content.encode())


def _write(weights: MergedWeights, folder: Path, options: MergeOptions, on_event: OnEvent) -> None:
    tensors = [t for layer in weights.spec.layers for t in layer.tensors if not t.added]
    announced = [(t.name, t.shape, STORED_DTYPE[options.dtype]) for t in tensors]
    total, done = sum(t.num_elements for t in tensors), 0
    with (
        phase("merge", on_event, total, "parameters"),
        SafetensorsWriter(folder, announced, options.max_shard_bytes) as writer,
    ):
        for tensor in tensors:
            for start, stop in _ranges(tensor.shape):
                values = weights.read(tensor.name, start, stop)
                rounded = round_to_bfloat16(values) if options.dtype == "bfloat16" else values
                writer.write(tensor.name, start, rounded)
                done += stop - start
                on_event(PhaseAdvanced(phase="merge", done=done))


def _ranges(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield ranges of a tensor's elements; of a matrix, whole rows."""
    if len(shape) == 2:
        yield from ((first * shape[1], last * shape[1]) for first, last in row_chunks(shape))
        return
    count = math.prod(shape)
    for start in range(0, count, CHUNK_ELEMENTS):
        yield start, min(start + CHUNK_ELEMENTS, count)


def _result(
    options: MergeOptions,
    model: str,
    weights: MergedWeights,
    folder: Path,
    budget_bytes: int,
    seconds: float,
) -> MergeResult:
    sizes = {path.name: os.stat(path).st_size for path in folder.iterdir()}
    written_bytes = sum(sizes.values())
    layers = weights.spec.layers
    return MergeResult(
        adapter=options.adapter,
        model=model,
        output=str(folder),
        dtype=options.dtype,
        num_elements=sum(t.num_elements for la in layers for t in la.tensors if not t.added),
        num_merged=len(weights.modules),
        num_files=sum(name.endswith(".safetensors") for name in sizes),
        bytes_written=written_bytes,
        budget_bytes=TierBytes(host=budget_bytes, disk=shutil.disk_usage(folder).free),
        measured_peak_bytes=TierBytes(
            host=max(peak_resident_bytes(), peak_children_bytes()), disk=written_bytes
        ),
        seconds=seconds,
    )
