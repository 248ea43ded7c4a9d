"""The pass over the data: records to examples to tokens to rows to files, one batch at a time."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TextIO

from outsize.errors import DataError
from outsize.train.data.encode import IGNORED, Encoder
from outsize.train.data.manifest import EVALUATION_FOLDER, DatasetInfo
from outsize.train.data.options import DataOptions
from outsize.train.data.pack import ExamplePacker, Packer, Row, StreamPacker
from outsize.train.data.progress import Progress
from outsize.train.data.readers import read_records
from outsize.train.data.shapes import Example, Shape, columns_of_interest, read_example, recognise
from outsize.train.data.source import Source
from outsize.train.data.tokenizer import load_tokenizer
from outsize.train.data.write import RowWriter


class _Reading:
    """The examples of a source in order; knows their shape, counts them and shows progress."""

    def __init__(self, source: Source, text_field: str | None, progress: Progress) -> None:
        records = read_records(source, columns_of_interest(text_field))
        first = next(records, None)
        if first is None:
            raise DataError(f"{source.name} is empty: it holds no records.")
        self._records = chain([first], records)
        self._text_field = text_field
        self._progress = progress
        self.shape: Shape = recognise(first, text_field)
        self.num_records = 0

    def examples(self) -> Iterator[tuple[str, Example]]:
        for record in self._records:
            self.num_records += record.begins
            self._progress.advance(record.done_bytes, self.num_records)
            yield record.where, read_example(record, self.shape, self._text_field)


def build_rows(
    source: Source,
    options: DataOptions,
    fingerprint: str,
    tokenizer_hash: str,
    stream: TextIO,
) -> DatasetInfo:
    """Read, tokenise, pack and write everything; return what is in the output folder then.

    Nothing is in the folder under its final name before all of it is written.
    """
    assert options.tokenizer_folder is not None
    progress = Progress(stream, source.size_bytes)
    reading = _Reading(source, options.text_field, progress)
    tokenizer = load_tokenizer(options.tokenizer_folder)
    encoder = Encoder(tokenizer, options.train_on)
    packer = _packer(reading.shape, options, tokenizer.eos_token_id)
    with ExitStack() as stack:
        writers = [stack.enter_context(RowWriter(folder)) for folder in _folders(options)]
        for number, row in enumerate(_rows(reading, encoder, packer)):
            writers[is_set_aside(number, options.evaluation_fraction)].write(row)
        _check(source, options, writers, packer.num_dropped)
        info = DatasetInfo(
            seq_length=options.max_seq_length,
            num_truncated=packer.num_truncated,
            num_dropped=packer.num_dropped + encoder.num_empty,
            num_evaluation_rows=sum(writer.num_rows for writer in writers[1:]),
            shape=reading.shape,
            source=source.name,
            fingerprint=fingerprint,
            tokenizer_hash=tokenizer_hash,
        )
        for writer in reversed(writers):  # the main folder last: with it everything is there
            writer.commit(info)
    info = writers[0].counted(info)
    progress.finish(_summary(source, info, reading.num_records))
    return info


def is_set_aside(number: int, fraction: float) -> bool:
    """Return whether row `number` is for evaluation: one every so many rows, evenly."""
    return int((number + 1) * fraction + 0.5) > int(number * fraction + 0.5)


def _folders(options: DataOptions) -> list[Path]:
    folder = Path(options.output)
    return [folder, folder / EVALUATION_FOLDER] if options.evaluation_fraction else [folder]


def _packer(shape: Shape, options: DataOptions, fill_id: int) -> Packer:
    if shape == "text":
        return StreamPacker(options.max_seq_length, fill_id, packing=options.packing)
    return ExamplePacker(options.max_seq_length, fill_id, packing=options.packing)


def _rows(reading: _Reading, encoder: Encoder, packer: Packer) -> Iterator[Row]:
    """Yield the rows that teach something; an end-of-text token alone in its row has no label."""
    for chunk in encoder.encode(reading.examples()):
        yield from _with_labels(packer.add(chunk))
    yield from _with_labels(packer.flush())


def _with_labels(rows: Iterator[Row]) -> Iterator[Row]:
    return (row for row in rows if (row.labels != IGNORED).any())


def _check(
    source: Source, options: DataOptions, writers: list[RowWriter], num_dropped: int
) -> None:
    num_rows = sum(writer.num_rows for writer in writers)
    if not num_rows and num_dropped:
        raise DataError(
            f"{source.name}: no token to learn is left; the answers of all {num_dropped} examples "
            f"lie behind the first {options.max_seq_length} tokens (--max-seq-length)."
        )
    if not num_rows:
        raise DataError(f"{source.name} is empty: none of its records holds any text.")
    if not all(writer.num_rows for writer in writers):
        raise DataError(
            f"{source.name} fills {num_rows} rows of {options.max_seq_length} tokens; they "
            f"cannot be parted by --evaluation-fraction {options.evaluation_fraction}: a part "
            "would have no row."
        )


def _summary(source: Source, info: DatasetInfo, num_records: int) -> list[str]:
    num_rows = info.num_rows + info.num_evaluation_rows
    lines = [
        f"{source.name}: {num_records:,} records of the shape {info.shape}, {num_rows:,} rows of "
        f"{info.seq_length:,} tokens, {info.num_evaluation_rows:,} of them for evaluation"
    ]
    if source.num_files_skipped:
        lines.append(
            f"{source.num_files_skipped:,} files are of another split or no data: not read"
        )
    if info.num_truncated:
        lines.append(
            f"{info.num_truncated:,} examples are longer than {info.seq_length:,} tokens and were "
            "cut (--max-seq-length)"
        )
    if info.num_dropped:
        lines.append(
            f"{info.num_dropped:,} records were left out: empty, or no answer within "
            f"{info.seq_length:,} tokens"
        )
    return lines
