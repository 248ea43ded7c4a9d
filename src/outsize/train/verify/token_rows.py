"""Rows of random tokens to train on, the same for every run of the same seed.

They need no tokenizer and no text, and they have what text has: several documents in a row, so that
attention has boundaries, and places without loss.
"""

from pathlib import Path

import numpy as np

from outsize.train.data.encode import IGNORED
from outsize.train.data.manifest import DatasetInfo
from outsize.train.data.pack import Row, RowBuilder
from outsize.train.data.write import RowWriter

_WITHOUT_LOSS = 0.1
_DOCUMENTS_PER_ROW = 3


def write_token_rows(
    folder: Path, *, num_rows: int, seq_length: int, vocab_size: int, seed: int
) -> None:
    """Write `num_rows` rows that `PackedRows` reads.

    Raises:
        StorageError: the disk is full or fails.
    """
    generator = np.random.default_rng(seed)
    info = DatasetInfo(
        seq_length=seq_length,
        num_truncated=0,
        num_dropped=0,
        num_evaluation_rows=0,
        shape="text",
        source="random tokens",
        fingerprint=f"random-{seed}",
        tokenizer_hash="none",
    )
    with RowWriter(folder) as writer:
        for _ in range(num_rows):
            writer.write(_row(generator, seq_length, vocab_size))
        writer.commit(info)


def _row(generator: np.random.Generator, seq_length: int, vocab_size: int) -> Row:
    row = RowBuilder(seq_length, fill_id=0)
    while row.room:
        longest = max(2, 2 * seq_length // _DOCUMENTS_PER_ROW)
        count = min(row.room, int(generator.integers(1, longest)))
        # Squared, so that some tokens come often, as they do in text.
        ids = (vocab_size * generator.random(count + 1) ** 2).astype(np.int32)
        labels = np.where(generator.random(count) < _WITHOUT_LOSS, IGNORED, ids[1:])
        row.begin()
        row.add(ids[:-1], labels.astype(np.int32))
    return row.finish()
