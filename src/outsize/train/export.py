"""A run's committed weights become a Hugging Face folder, one span of state at a time.

No PyTorch in here: masters are rounded by NumPy, as PyTorch would round them. The folder is whole
or it is not there. Read `committed.py` for where the weights come from.
"""

import json
import os
import shutil
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outsize.errors import Contributor
from outsize.formats.export import SafetensorsWriter
from outsize.formats.source import Float32Array
from outsize.options import ExportOptions
from outsize.plan.layout import role
from outsize.results import ExportResult, TierBytes
from outsize.runtime.events import Notice, OnEvent, PhaseAdvanced, phase
from outsize.store.budget import host_limits, peak_resident_bytes, resident_bytes
from outsize.store.durable import write_whole_file
from outsize.train.adapter import CONFIG_NAME
from outsize.train.committed import CommittedWeights
from outsize.train.export_adapter import (
    FILE_PREFIX,
    FILE_STEM,
    MOST_BYTES,
    adapter_config,
)
from outsize.train.new_folder import copy_small_files, new_folder, refuse_used, require_budget

_CHUNK_ELEMENTS = 2**20
"""Elements that are read, rounded and written at once."""

_WORK_BYTES = 36 * 2**20
"""Room for a chunk in fp32, its rounding, page cache of what is being written, and the heap."""

STORED_DTYPE = {"bfloat16": "BF16", "float32": "F32"}
_NAN = 0x7FC0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """The folder to write and what is allowed."""

    folder: Path
    budget_bytes: TierBytes


def run_export(options: ExportOptions, on_event: OnEvent, start_s: float) -> ExportResult:
    """Write the last commit of a run as a folder that Transformers loads, or PEFT, if the run
    trained adapters.

    Raises:
        RunError: no run, nothing committed, a run in use, or an output that is not empty.
        BudgetError: the budget is too small; refused before anything is written.
        StorageError: the state is damaged, or the disk is full; what was written is removed.

    Cost: a region of state and a chunk, about 60 MiB on host; on disk the model in its new dtype.
    """
    run = Path(options.run)
    with closing(CommittedWeights(run, lambda text: on_event(Notice(text=text)))) as weights:
        adapters = adapter_config(run, weights.layout)
        usual = "bfloat16" if adapters is None else "float32"
        options = replace(options, dtype=options.dtype or usual)
        target = _target(options, run, weights)
        with new_folder(target.folder):
            copy_small_files(run / "model", target.folder)
            if adapters is not None:
                write_whole_file(target.folder / CONFIG_NAME, adapters.encode())
            elif (run / "model" / "config.json").exists():  # layers of the caller's own have none
                _write_config(run / "model", target.folder, str(options.dtype), weights)
            _write_weights(weights, target.folder, options, adapters is not None, on_event)
        return _result(options, weights, target, time.monotonic() - start_s)


def round_to_bfloat16(values: Float32Array) -> NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16 of each value, ties to even, as PyTorch does it.

    Every NaN becomes the quiet one.

    Cost: 6 bytes an element besides the result.
    """
    bits = values.view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits  # wraps for some NaNs, which are replaced below
    rounded >>= 16
    result = rounded.astype(np.uint16)
    result[np.isnan(values)] = _NAN
    return result


def _target(options: ExportOptions, run: Path, weights: CommittedWeights) -> _Target:
    folder = Path(options.output) if options.output is not None else run / "export"
    refuse_used(folder)
    budget_bytes = options.memory_bytes or host_limits().free_bytes
    _check_budget(options, weights, budget_bytes)
    existing = next(p for p in (folder, *folder.resolve().parents) if p.exists())
    free_bytes = shutil.disk_usage(existing).free
    return _Target(folder=folder, budget_bytes=TierBytes(host=budget_bytes, disk=free_bytes))


def _check_budget(options: ExportOptions, weights: CommittedWeights, budget_bytes: int) -> None:
    sizes = weights.layout.region_bytes
    region_bytes = max(size for name, size in sizes.items() if role(name) == "state")
    process_bytes = resident_bytes()
    require_budget(
        f"Exporting {options.run}",
        process_bytes + region_bytes + _WORK_BYTES,
        budget_bytes,
        (
            Contributor(role="interpreter and libraries", size_bytes=process_bytes),
            Contributor(role="one span of state", size_bytes=region_bytes),
            Contributor(role="rounding and writing", size_bytes=_WORK_BYTES),
        ),
    )


def _write_config(source: Path, target: Path, dtype: str, weights: CommittedWeights) -> None:
    config: dict[str, Any] = json.loads((source / "config.json").read_bytes())
    config.pop("torch_dtype", None)  # the older name of dtype
    config |= {"dtype": dtype, "architectures": [weights.layout.model.architecture]}
    write_whole_file(target / "config.json", json.dumps(config, indent=2).encode() + b"\n")


def _write_weights(
    weights: CommittedWeights,
    folder: Path,
    options: ExportOptions,
    has_adapters: bool,
    on_event: OnEvent,
) -> None:
    tensors, dtype = weights.tensors.values(), STORED_DTYPE[str(options.dtype)]
    prefix = FILE_PREFIX if has_adapters else ""
    announced = [(f"{prefix}{t.name}", t.shape, dtype) for t in tensors]
    total, done = weights.layout.model.num_trainable, 0
    if has_adapters:  # PEFT reads one file
        writer = SafetensorsWriter(folder, announced, MOST_BYTES, FILE_STEM)
    else:
        writer = SafetensorsWriter(folder, announced, options.max_shard_bytes)
    with phase("export", on_event, total, "parameters"), writer:
        for tensor in tensors:
            for start in range(0, tensor.num_elements, _CHUNK_ELEMENTS):
                stop = min(start + _CHUNK_ELEMENTS, tensor.num_elements)
                values = weights.read(tensor.name, start, stop)
                is_rounded = options.dtype == "bfloat16"
                rounded = round_to_bfloat16(values) if is_rounded else values
                writer.write(f"{prefix}{tensor.name}", start, rounded)
                done += stop - start
                on_event(PhaseAdvanced(phase="export", done=done))


def _result(
    options: ExportOptions, weights: CommittedWeights, target: _Target, seconds: float
) -> ExportResult:
    sizes = {path.name: os.stat(path).st_size for path in target.folder.iterdir()}
    written_bytes = sum(sizes.values())
    return ExportResult(
        run=options.run,
        step=weights.step,
        output=str(target.folder),
        format=options.format,
        dtype=str(options.dtype),
        num_elements=weights.layout.model.num_trainable,
        num_files=sum(name.endswith(".safetensors") for name in sizes),
        bytes_written=written_bytes,
        budget_bytes=target.budget_bytes,
        measured_peak_bytes=TierBytes(host=peak_resident_bytes(), disk=written_bytes),
        seconds=seconds,
    )
