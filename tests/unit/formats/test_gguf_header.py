import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.errors import FormatError
from outsize.formats.gguf_header import read_header
from outsize.formats.gguf_types import GgufHeader
from outsize.formats.ranged import RangedFile

HOSTILE_MEMORY_BYTES = 8 << 20


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _uint32(key: bytes, value: int) -> bytes:
    return _string(key) + struct.pack("<II", 4, value)


def _tensor(name: bytes, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    return _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def _file(
    pairs: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (),
    data_bytes: int = 0,
    num_tensors: int | None = None,
    num_keys: int | None = None,
) -> bytes:
    counts = (
        len(tensors) if num_tensors is None else num_tensors,
        len(pairs) if num_keys is None else num_keys,
    )
    head = b"GGUF" + struct.pack("<IQQ", 3, *counts) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data_bytes)


def _read(path: Path) -> GgufHeader:
    file = RangedFile(path)
    try:
        return read_header(file)
    finally:
        file.close()


def _real_file(path: Path) -> bytes:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_token_list(["a", "bc", "def"])
    writer.add_token_scores([0.0, 1.0, 2.0])
    writer.add_chat_template("x" * 5000)
    writer.add_tensor("token_embd.weight", np.ones((3, 4), np.float32))
    writer.add_tensor("output_norm.weight", np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_a_real_header_is_read_and_long_values_are_only_counted(tmp_path: Path) -> None:
    _real_file(tmp_path / "m.gguf")
    header = _read(tmp_path / "m.gguf")
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["tokenizer.ggml.scores"] == (0.0, 1.0, 2.0)
    assert header.lengths["tokenizer.ggml.tokens"] == 3
    assert header.lengths["tokenizer.chat_template"] == 5000
    assert "tokenizer.chat_template" not in header.metadata
    assert [(t.name, t.shape) for t in header.tensors] == [
        ("token_embd.weight", (3, 4)),
        ("output_norm.weight", (4,)),
    ]


_F32 = _tensor(b"a", (8,), 0, 0)
_LIST_OF_STRINGS = _string(b"k") + struct.pack("<IIQ", 9, 8, 1 << 60)
_LIST_OF_NUMBERS = _string(b"k") + struct.pack("<IIQ", 9, 4, 1 << 60)
_LONG_STRING = _string(b"k") + struct.pack("<IQ", 8, 1 << 62)
HOSTILE = {
    "empty": (b"", "is no GGUF file"),
    "other": (b"PK" * 20, "is no GGUF file: it does not begin with the letters GGUF"),
    "version": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "is version 1 of GGUF"),
    "endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is a big-endian file of GGUF"),
    "many tensors": (_file(num_tensors=1 << 60), "which is absurd"),
    "many keys": (_file(num_keys=1 << 60), "which is absurd"),
    "no tensors": (_file(num_tensors=10_000), "the file is truncated or lies"),
    "long key": (_file((struct.pack("<Q", 1 << 40),)), "a name of 1099511627776 bytes"),
    "long string": (_file((_LONG_STRING,)), "bytes are claimed"),
    "many strings": (_file((_LIST_OF_STRINGS,)), "strings cannot follow"),
    "many numbers": (_file((_LIST_OF_NUMBERS,)), "bytes are claimed"),
    "nested": (
        _file((_string(b"k") + struct.pack("<IIQ", 9, 9, 1),)),
        "items of the unknown type 9",
    ),
    "type": (_file((_string(b"k") + struct.pack("<I", 99),)), "key 'k' has the unknown type 99"),
    "key twice": (_file((_uint32(b"k", 1), _uint32(b"k", 2))), "the key 'k' comes twice"),
    "not text": (_file((_string(b"\xff\xfe"),)), "not UTF-8"),
    "alignment": (_file((_uint32(b"general.alignment", 33),)), "is 33, not a power of two"),
    "alignment 0": (_file((_uint32(b"general.alignment", 0),)), "is 0, not a power of two"),
    "dimensions": (_file((), (_tensor(b"a", (1,) * 5, 0, 0),)), "'a' has 5 dimensions"),
    "tensor type": (_file((), (_tensor(b"a", (8,), 999, 0),)), "'a' has the unknown type 999"),
    "row": (_file((), (_tensor(b"a", (33,), 2, 0),)), r"has shape \[33\], impossible for Q4_0"),
    "zero": (_file((), (_tensor(b"a", (0,), 0, 0),), 32), r"has shape \[0\], impossible for F32"),
    "outside": (_file((), (_F32,), 31), "truncated: tensor 'a' ends at byte"),
    "huge": (_file((), (_tensor(b"a", (1 << 62,) * 4, 0, 0),), 32), "tensor 'a' ends at byte"),
    "unaligned": (_file((), (_tensor(b"a", (1,), 0, 8),), 64), "'a' is not aligned to 32 bytes"),
    "twice": (_file((), (_F32, _tensor(b"a", (8,), 0, 32)), 64), "names the tensor 'a' twice"),
    "overlap": (_file((), (_F32, _tensor(b"b", (8,), 0, 0)), 64), "'b' overlaps the tensor before"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused_in_little_memory(case: str, tmp_path: Path) -> None:
    content, message = HOSTILE[case]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(FormatError, match=message) as caught:
        _read(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak_bytes < HOSTILE_MEMORY_BYTES


def test_a_sparse_file_does_not_make_huge_counts_believable(tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(_file((_string(b"k") + struct.pack("<IIQ", 9, 0, 1 << 33),)))
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match="8589934592 bytes are claimed, 2684"):
        _read(path)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.sampled_from([0, 1, 7, 300, 65_520, 65_536, 70_000]), max_size=12))
def test_strings_of_any_length_are_passed_over(
    lengths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("strings") / "m.gguf"
    texts = b"".join(_string(b"x" * length) for length in lengths)
    pair = _string(b"k") + struct.pack("<IIQ", 9, 8, len(lengths)) + texts
    path.write_bytes(_file((pair, _uint32(b"after", 7))))
    header = _read(path)
    assert header.lengths["k"] == len(lengths)
    assert header.metadata["after"] == 7


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_flipped_bytes_only_ever_raise_a_format_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "m.gguf"
    content = bytearray(_real_file(path))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    refusal, tensors = str(path), ()
    tracemalloc.start()
    try:
        tensors = _read(path).tensors
    except FormatError as error:
        refusal = str(error)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in refusal
    assert all(t.offset + t.num_bytes <= len(content) for t in tensors)
    assert peak_bytes < HOSTILE_MEMORY_BYTES
