"""Tokenises training data once into files of rows.

`prepare_data` is the whole of it, top to bottom: find the source, reuse what is there, read,
encode, pack, write. `child.py` runs it in a process of its own, so that its libraries never count
against the trainer.
"""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from outsize.errors import DataError
from outsize.train.data.build import build_rows
from outsize.train.data.manifest import EVALUATION_FOLDER, VERSION, DatasetInfo
from outsize.train.data.options import DataOptions
from outsize.train.data.render import TrainOn
from outsize.train.data.rows import PackedRows
from outsize.train.data.source import Source, find_source
from outsize.train.data.tokenizer import hash_tokenizer


def prepare_data(
    *,
    data: str,
    tokenizer_folder: str | None,
    output: str,
    max_seq_length: int,
    train_on: TrainOn = "auto",
    text_field: str | None = None,
    split: str = "train",
    packing: bool = True,
    evaluation_fraction: float = 0.0,
) -> dict[str, Any]:
    """Tokenise `data` into the folder `output` and return the fields of its `DatasetInfo`.

    The arguments are those of `DataOptions`. A folder that was made from the same data with the
    same options and the same tokenizer is taken as it is. Progress and what was cut or left out are
    said on stderr.

    Raises:
        UsageError: an option is out of range.
        DataError: the data or the tokenizer cannot be used; names file and line.
        StorageError: the rows cannot be written.

    Cost: about 130 MB of libraries (320 MB where PyTorch is imported) and tens of MB for the batch
    that is being tokenised; 12 bytes on disk for each token. The data may be of any size.
    """
    options = DataOptions(
        data=data,
        tokenizer_folder=tokenizer_folder,
        output=output,
        max_seq_length=max_seq_length,
        train_on=train_on,
        text_field=text_field,
        split=split,
        packing=packing,
        evaluation_fraction=evaluation_fraction,
    )
    source = find_source(data, split)
    tokenizer_hash = hash_tokenizer(tokenizer_folder)
    fingerprint = _fingerprint(source, options, tokenizer_hash)
    info = _finished(options, fingerprint)
    if info is None:
        info = build_rows(source, options, fingerprint, tokenizer_hash, sys.stderr)
    return dataclasses.asdict(info)


def _fingerprint(source: Source, options: DataOptions, tokenizer_hash: str) -> str:
    parts = [VERSION, source.identity(), options.identity(), tokenizer_hash]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _finished(options: DataOptions, fingerprint: str) -> DatasetInfo | None:
    """Return what the output folder holds, if that is whole and what would be made now."""
    folders = [Path(options.output)]
    if options.evaluation_fraction:
        folders.append(folders[0] / EVALUATION_FOLDER)
    infos = []
    for folder in folders:
        try:
            with PackedRows(folder) as rows:
                infos.append(rows.info)
        except DataError:  # not prepared yet, or damaged: it is made again
            return None
    return infos[0] if all(info.fingerprint == fingerprint for info in infos) else None
