"""Packing, against a checker that knows nothing of the packers: it compares rows with documents."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.train.data.encode import IGNORED, Chunk
from outsize.train.data.pack import ExamplePacker, StreamPacker
from outsize.train.data.row_count import OPEN_ROWS

FILL = 9999


def array(values) -> np.ndarray:
    return np.array(values, np.int32)


def whole(tokens: list[int], has_loss: list[bool]) -> Chunk:
    """Make a chunk of one document; place 0 never is a label."""
    labels = [t if m else IGNORED for t, m in zip(tokens[1:], has_loss[1:], strict=True)]
    return Chunk(input_ids=array(tokens), labels=array([*labels, IGNORED]), begins=True)


def pack(packer, chunks) -> list:
    rows = [row for chunk in chunks for row in packer.add(chunk)]
    return rows + list(packer.flush())


def segments(row) -> list[tuple[list[int], list[int]]]:
    """Cut a row where its position ids restart; they must count up by one elsewhere."""
    starts = [0, *(np.flatnonzero(np.diff(row.position_ids) != 1) + 1)]
    cuts = zip(starts, [*starts[1:], len(row.position_ids)], strict=True)
    found = []
    for first, last in cuts:
        assert row.position_ids[first:last].tolist() == list(range(last - first))
        part = slice(first, last)
        found.append((row.input_ids[part].tolist(), row.labels[part].tolist()))
    return found


def documents_of(row) -> list[tuple[list[int], list[int]]]:
    """Return the segments of a row without its filling, which is checked."""
    found = segments(row)
    if row.num_tokens < len(row.input_ids):
        tokens, labels = found.pop()
        assert set(tokens) == {FILL}
        assert set(labels) == {IGNORED}
    assert sum(len(tokens) for tokens, _ in found) == row.num_tokens
    return found


@st.composite
def numbered_documents(draw) -> list[list[int]]:
    """Documents in which every token is another number, so that each can be followed."""
    lengths = draw(st.lists(st.integers(1, 25), min_size=1, max_size=20))
    ends = np.cumsum(lengths)
    return [list(range(end - n, end)) for end, n in zip(ends, lengths, strict=True)]


@given(documents=numbered_documents(), seq_length=st.integers(2, 12), data=st.data())
@settings(max_examples=200, deadline=None)
def test_stream_keeps_every_token_once_in_order_and_labels_the_next_one(
    documents, seq_length, data
):
    chunks = []
    for tokens in documents:
        chunk = whole(tokens, [True] * len(tokens))
        cut = data.draw(st.integers(0, len(tokens)))
        chunks.append(
            Chunk(input_ids=chunk.input_ids[:cut], labels=chunk.labels[:cut], begins=True)
        )
        chunks.append(
            Chunk(input_ids=chunk.input_ids[cut:], labels=chunk.labels[cut:], begins=False)
        )
    rows = pack(StreamPacker(seq_length, FILL, packing=True), chunks)

    found = [part for row in rows for part in documents_of(row)]
    assert [t for tokens, _ in found for t in tokens] == list(range(sum(map(len, documents))))
    last_tokens = {tokens[-1] for tokens in documents}
    for tokens, labels in found:
        expected = [IGNORED if t in last_tokens else t + 1 for t in tokens]
        assert labels == expected
    first_tokens = {tokens[0] for tokens in documents}
    row_starts = {int(row.input_ids[0]) for row in rows}
    assert {tokens[0] for tokens, _ in found} == first_tokens | row_starts
    assert all(row.num_tokens == seq_length for row in rows[:-1])
    assert sum(row.num_documents for row in rows) == len(documents)


@given(documents=numbered_documents(), seq_length=st.integers(2, 12))
@settings(max_examples=50, deadline=None)
def test_stream_without_packing_starts_every_document_in_a_row_of_its_own(documents, seq_length):
    chunks = [whole(tokens, [True] * len(tokens)) for tokens in documents]
    rows = pack(StreamPacker(seq_length, FILL, packing=False), chunks)

    found = [documents_of(row) for row in rows]
    assert all(len(parts) == 1 for parts in found)
    assert [t for parts in found for t in parts[0][0]] == list(range(sum(map(len, documents))))
    assert all(row.num_documents <= 1 for row in rows)


@given(documents=numbered_documents(), seq_length=st.integers(2, 12), data=st.data())
@settings(max_examples=200, deadline=None)
def test_examples_stay_whole_and_are_cut_or_dropped_only_when_too_long(documents, seq_length, data):
    masks = [
        data.draw(st.lists(st.booleans(), min_size=len(d), max_size=len(d))) for d in documents
    ]
    chunks = [whole(tokens, mask) for tokens, mask in zip(documents, masks, strict=True)]
    packer = ExamplePacker(seq_length, FILL, packing=True)
    rows = pack(packer, chunks)

    expected = {}
    num_truncated = 0
    for tokens, mask in zip(documents, masks, strict=True):
        learnt = mask[1 : seq_length + 1]
        if any(learnt):
            expected[tokens[0]] = (tokens[:seq_length], learnt)
            num_truncated += len(tokens) > seq_length
    found = [part for row in rows for part in documents_of(row)]
    assert sorted(tokens[0] for tokens, _ in found) == sorted(expected)
    for tokens, labels in found:
        kept, learnt = expected[tokens[0]]
        assert tokens == kept
        for place, (token, label) in enumerate(zip(tokens, labels, strict=True)):
            has_label = place < len(learnt) and learnt[place]
            assert label == (token + 1 if has_label else IGNORED)
    assert packer.num_truncated == num_truncated
    assert packer.num_dropped == len(documents) - len(expected)
    assert sum(row.num_documents for row in rows) == len(expected)


def test_best_fit_fills_rows_that_first_come_first_served_would_not():
    lengths = [6, 5, 4, 5]
    chunks = [whole(list(range(n)), [True] * n) for n in lengths]
    rows = pack(ExamplePacker(10, FILL, packing=True), chunks)
    assert [row.num_tokens for row in rows] == [10, 10]


def test_examples_without_packing_have_a_row_each():
    chunks = [whole([1, 2], [True, True]) for _ in range(3)]
    rows = pack(ExamplePacker(10, FILL, packing=False), chunks)
    assert [row.num_documents for row in rows] == [1, 1, 1]


def test_open_rows_are_bounded():
    packer = ExamplePacker(10, FILL, packing=True)
    chunk = whole(list(range(6)), [True] * 6)
    emitted = [len(list(packer.add(chunk))) for _ in range(OPEN_ROWS + 5)]
    assert sum(emitted) == 5
    assert len(list(packer.flush())) == OPEN_ROWS


@pytest.mark.parametrize("kind", [StreamPacker, ExamplePacker])
def test_nothing_in_nothing_out(kind):
    assert pack(kind(8, FILL, packing=True), []) == []
