import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from outsize.errors import FormatError
from outsize.formats.safetensors import SafetensorsSource

HOSTILE_MEMORY_BYTES = 8 << 20
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def _entry(shape: list[int], start: int, stop: int, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def _file(header: object, num_bytes: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(num_bytes)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_tensors_at_random_ranges(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("model")
    shapes = data.draw(st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=4))
    tensors = {
        f"model.t{i}": torch.randn(shape).to(data.draw(st.sampled_from(DTYPES)))
        for i, shape in enumerate(shapes)
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt", "a": 'b"}]{'})
    source = SafetensorsSource(folder)
    assert set(source.tensors) == set(tensors)
    for name, tensor in tensors.items():
        start = data.draw(st.integers(0, tensor.numel()))
        stop = data.draw(st.integers(start, tensor.numel()))
        expected = tensor.float().numpy().ravel()[start:stop]
        assert source.tensors[name].shape == tuple(tensor.shape)
        assert np.array_equal(source.read(name, start, stop), expected)
    source.close()


def test_a_range_over_several_chunks_takes_little_more_than_its_result(tmp_path: Path) -> None:
    tensor = torch.randn(3_000_000).bfloat16()
    save_file({"model.w": tensor}, tmp_path / "model.safetensors")
    source = SafetensorsSource(tmp_path)
    tracemalloc.start()
    values = source.read("model.w", 7, 2_999_999)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(values, tensor.float().numpy()[7:2_999_999])
    assert peak_bytes < values.nbytes + (3 << 20)
    source.close()


def test_special_values_are_kept(tmp_path: Path) -> None:
    tensor = torch.tensor([float("inf"), -0.0, float("nan"), 1e300], dtype=torch.float64)
    save_file({"model.w": tensor}, tmp_path / "model.safetensors")
    source = SafetensorsSource(tmp_path)
    assert str(source.read("model.w", 0, 4).tolist()) == "[inf, -0.0, nan, inf]"
    source.close()


def _shard(folder: Path, weight_map: dict[str, str], shards: dict[str, list[str]]) -> None:
    index = {"metadata": {"total_size": 1, "x": [1, {}]}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for shard, names in shards.items():
        save_file({name: torch.full((2,), float(len(name))) for name in names}, folder / shard)


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    _shard(
        tmp_path,
        {"model.a": "1.st", "model.bb": "2.st"},
        {"1.st": ["model.a"], "2.st": ["model.bb"]},
    )
    source = SafetensorsSource(tmp_path)
    assert source.read("model.bb", 1, 2).tolist() == [8.0]
    assert source.tensors["model.a"].file == tmp_path / "1.st"
    source.close()


def test_a_missing_shard_and_a_missing_tensor_are_named(tmp_path: Path) -> None:
    _shard(tmp_path, {"a": "1.st", "b": "2.st"}, {"1.st": ["a"]})
    with pytest.raises(FormatError, match=r"index\.json names the shard .*2\.st, which is missing"):
        SafetensorsSource(tmp_path)
    _shard(tmp_path, {"a": "1.st", "b": "2.st"}, {"2.st": ["c"]})
    with pytest.raises(FormatError, match=r"tensor 'b' is not in its shard .*2\.st"):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b'{"weight_map": {"a": "../x"}}', "'a' is said to be in '../x', which is no file name"),
        (b'{"weight_map": {"a": "x", "a": "y"}}', "names the tensor 'a' twice"),
        (b'{"weight_map": {}}', "has no weight_map"),
        (b'{"metadata": {}}', "has no weight_map"),
        (b'{"weight_map": {"a": 1}}', "damaged JSON header at byte .*: a string is expected"),
        (b"[]", "'{' is expected"),
        (b'{"weight_map": {"a": "x"}} y', "text follows the end"),
        (b'{"m": ' + b"[" * 100, "a value is expected"),
    ],
)
def test_a_hostile_index_is_refused(index: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(index)
    with pytest.raises(FormatError, match=message):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["embed_tokens.weight", "layers.0.x.weight", "norm.weight"], "model."),
        (["wte.weight", "h.0.attn.c_attn.weight", "ln_f.weight"], "transformer."),
        (["model.embed_tokens.weight", "lm_head.weight"], ""),
    ],
)
def test_names_saved_from_the_bare_decoder_are_completed(
    names: list[str], prefix: str, tmp_path: Path
) -> None:
    save_file({name: torch.ones(1) for name in names}, tmp_path / "model.safetensors")
    source = SafetensorsSource(tmp_path)
    assert set(source.tensors) == {prefix + name for name in names}
    source.close()


def test_integers_are_refused_only_when_asked_for(tmp_path: Path) -> None:
    save_file({"model.i": torch.arange(3)}, tmp_path / "model.safetensors")
    source = SafetensorsSource(tmp_path)
    with pytest.raises(FormatError, match=r"safetensors: tensor 'model.i' has dtype I64; only F64"):
        source.read("model.i", 0, 3)
    source.close()


_ONE = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HOSTILE = {
    "empty": (b"", "is truncated: it has 0 bytes and no header"),
    "huge header": (struct.pack("<Q", 1 << 60), "its header claims 1152921504606846976 bytes"),
    "not json": (_file(b"\x00" * 64), "'{' is expected"),
    "list": (_file([]), "'{' is expected"),
    "cut": (_file(b'{"a":{"dtype":"F32"'), "',' is expected"),
    "bad token": (_file(b'{"a":@}'), "'{' is expected"),
    "bad string": (_file(b'{"a\\u00zz":1}'), "a string is not valid"),
    "no end": (_file(b'{"a'), "it is not JSON, or a value is too long"),
    "twice": (_file(b"{" + _ONE + b"," + _ONE + b"}", 4), "names the tensor 'a' twice"),
    "long name": (_file({"x" * 2000: {}}), "a string has more than 1024 characters"),
    "trailing": (_file(b"{} x"), "text follows the end of the JSON object"),
    "unknown": (_file({"a": {"evil": 1}}), "'a' has an unknown or repeated entry 'evil'"),
    "lacks": (_file({"a": {"dtype": "F32"}}), "'a' lacks its dtype, shape or data_offsets"),
    "dtype": (_file({"a": _entry([1], 0, 4, "Q9")}, 4), "'a' has the unknown dtype 'Q9'"),
    "dtype list": (_file({"a": _entry([1], 0, 4, [1])}, 4), "a string is expected"),
    "negative": (_file({"a": _entry([-1], 0, 4)}, 4), "a whole number is expected"),
    "fraction": (_file({"a": _entry([1.5], 0, 4)}, 4), "a whole number is expected"),  # type: ignore[list-item]
    "many dimensions": (_file({"a": _entry([1] * 99, 0, 4)}, 4), "a list has more than 16 entries"),
    "size": (_file({"a": _entry([2], 0, 4)}, 4), r"shape \[2\] and dtype F32, which takes 8 bytes"),
    "absurd": (_file({"a": _entry([10**18] * 16, 0, 4)}, 4), "but its range has 4"),
    "backwards": (_file({"a": _entry([1], 4, 0)}, 4), "but its range has -4"),
    "overlap": (
        _file({"a": _entry([2], 0, 8), "b": _entry([2], 4, 12)}, 12),
        "tensor 'b' overlaps the tensor before it",
    ),
    "hole": (_file({"a": _entry([1], 4, 8)}, 8), "tensor 'a' leaves a hole"),
    "outside": (_file({"a": _entry([2], 0, 8)}, 4), "is truncated: tensor 'a' ends at byte"),
    "rest": (_file({"a": _entry([1], 0, 4)}, 9), "has 5 bytes after its last tensor"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused_in_little_memory(case: str, tmp_path: Path) -> None:
    content, message = HOSTILE[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(FormatError, match=message) as caught:
        SafetensorsSource(tmp_path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak_bytes < HOSTILE_MEMORY_BYTES


@pytest.mark.parametrize("filler", [b" ", b"[", b'"'])
def test_a_header_of_fifty_megabytes_is_refused_in_little_memory(
    filler: bytes, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes(_file(b'{"__metadata__":' + filler * 50_000_000))
    tracemalloc.start()
    with pytest.raises(FormatError, match="damaged JSON header"):
        SafetensorsSource(tmp_path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 32 << 20


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_flipped_bytes_only_ever_raise_a_format_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "model.safetensors"
    content = bytearray(_file({"a": _entry([2], 0, 8), "b": _entry([], 8, 10, "BF16")}, 10))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    refusal, num_bytes = str(path), 0
    tracemalloc.start()
    try:
        source = SafetensorsSource(path.parent)
        num_bytes = sum(t.num_bytes for t in source.tensors.values())
        source.close()
    except FormatError as error:
        refusal = str(error)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in refusal
    assert num_bytes <= len(content)
    assert peak_bytes < HOSTILE_MEMORY_BYTES


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"model.w": torch.ones(1000)}, path)
    source = SafetensorsSource(tmp_path)
    with path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(FormatError, match=r"model\.safetensors was truncated while it was read"):
        source.read("model.w", 0, 1000)
    source.close()


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"index\.json is missing or is not a file"):
        SafetensorsSource(tmp_path)
