"""Rows that are counted from lengths, against the packers that fill them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outsize.train.data.build import is_set_aside
from outsize.train.data.encode import Chunk
from outsize.train.data.pack import ExamplePacker, Packer, StreamPacker
from outsize.train.data.row_count import OPEN_ROWS, RowCounter, num_set_aside

SEQ_LENGTH = 10
LENGTHS = st.lists(st.integers(1, 25), max_size=60)


def packed_rows(packer: Packer, lengths: list[int]) -> int:
    rows = 0
    for length in lengths:
        tokens = np.arange(length, dtype=np.int32)
        rows += len(list(packer.add(Chunk(input_ids=tokens, labels=tokens, begins=True))))
    return rows + len(list(packer.flush()))


@given(LENGTHS, st.booleans())
def test_text_fills_as_many_rows_as_are_counted(lengths, packing):
    counter = RowCounter(SEQ_LENGTH, packing=packing)
    for length in lengths:
        counter.add_text(length)
    rows = packed_rows(StreamPacker(SEQ_LENGTH, 0, packing=packing), lengths)
    assert math.ceil(counter.num_rows) == rows
    assert counter.num_tokens == sum(lengths)


@given(LENGTHS, st.booleans())
def test_examples_fill_as_many_rows_as_are_counted(lengths, packing):
    counter = RowCounter(SEQ_LENGTH, packing=packing)
    for length in lengths:
        counter.add_example(length)
    rows = packed_rows(ExamplePacker(SEQ_LENGTH, 0, packing=packing), lengths)
    assert counter.num_rows == rows
    assert packing or rows == len(lengths)


def test_no_more_rows_are_open_than_the_packer_has():
    lengths = [*range(100, 200), *range(900, 800, -1)] * 3
    counter = RowCounter(1024, packing=True)
    for length in lengths:
        counter.add_example(length)
    assert len(lengths) > OPEN_ROWS
    assert counter.num_rows == packed_rows(ExamplePacker(1024, 0, packing=True), lengths)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.25, 0.5, 0.9])
def test_what_is_set_aside_is_counted(fraction):
    for num_rows in (0, 1, 7, 100, 1234):
        aside = sum(is_set_aside(number, fraction) for number in range(num_rows))
        assert num_set_aside(num_rows, fraction) == aside
