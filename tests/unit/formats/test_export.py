import json
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from outsize.errors import RunError, StorageError
from outsize.formats.export import SafetensorsWriter
from outsize.formats.safetensors import SafetensorsSource

_TORCH = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_is_written_in_pieces_is_read_back(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("export") / "new" / "folder"
    shapes = data.draw(st.lists(st.lists(st.integers(0, 6), max_size=3), min_size=1, max_size=6))
    announced = [
        (f"t.{i}", tuple(shape), data.draw(st.sampled_from(list(_TORCH))))
        for i, shape in enumerate(shapes)
    ]
    tensors = {name: torch.randn(shape).to(_TORCH[dtype]) for name, shape, dtype in announced}
    limit = data.draw(st.integers(1, 400))
    with SafetensorsWriter(folder, announced, max_shard_bytes=limit) as writer:
        for name, tensor in tensors.items():
            cut = data.draw(st.integers(0, tensor.numel()))
            flat = tensor.reshape(-1)
            for start, part in ((0, flat[:cut]), (cut, flat[cut:])):
                if part.numel():
                    writer.write(name, start, _bytes_of(part))
    source = SafetensorsSource(folder)
    for name, tensor in tensors.items():
        with safe_open(source.tensors[name].file, framework="pt") as file:
            assert file.metadata() == {"format": "pt"}
            assert torch.equal(file.get_tensor(name), tensor)
        assert np.array_equal(
            source.read(name, 0, tensor.numel()), tensor.float().numpy().reshape(-1)
        )
    source.close()
    assert not list(folder.glob("*.outsize-partial"))


def test_an_empty_array_is_allowed_and_an_array_is_written_as_it_is(tmp_path: Path) -> None:
    with SafetensorsWriter(tmp_path, [("a", (0, 3), "F32"), ("b", (2, 2), "F32")]) as writer:
        writer.write("a", 0, np.empty((0, 3), np.float32))
        writer.write("b", 0, np.arange(4, dtype=np.float32).reshape(2, 2))
    source = SafetensorsSource(tmp_path)
    assert source.read("b", 0, 4).tolist() == [0, 1, 2, 3]
    assert source.tensors["a"].shape == (0, 3)
    source.close()


@pytest.mark.parametrize("max_shard_bytes", [10_000, 10_000_000])
def test_the_folder_loads_with_transformers(max_shard_bytes: int, tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    config.save_pretrained(tmp_path)
    state = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    announced = [(name, tuple(tensor.shape), "F32") for name, tensor in state.items()]
    with SafetensorsWriter(tmp_path, announced, max_shard_bytes=max_shard_bytes) as writer:
        for name, tensor in state.items():
            writer.write(name, 0, tensor.numpy())
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.arange(8)[None]
    assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)
    index = tmp_path / "model.safetensors.index.json"
    assert index.exists() == (max_shard_bytes == 10_000)
    if index.exists():
        sizes = json.loads(index.read_text())["metadata"]
        assert sizes["total_size"] == sum(4 * tensor.numel() for tensor in state.values())


def test_a_folder_that_holds_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(
        RunError, match=r"already holds a model \(model.safetensors\); give another"
    ):
        SafetensorsWriter(tmp_path, [("a", (1,), "F32")])
    assert (tmp_path / "model.safetensors").read_bytes() == b"precious"


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"takes 1\.\d+e?\S* ?\S+; .* are free there|are free"):
        SafetensorsWriter(tmp_path, [("a", (1 << 60,), "F32")])
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_file_limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_file_limit")
def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    announced = [("a", (20_000,), "F32"), ("b", (30_000,), "F32")]
    writer = SafetensorsWriter(tmp_path, announced, max_shard_bytes=90_000)
    writer.write("a", 0, np.zeros(20_000, np.float32))
    with pytest.raises(StorageError, match=r"failed: File too large\. What was written of it has"):
        writer.write("b", 0, np.zeros(30_000, np.float32))
    assert not list(tmp_path.iterdir())


def test_a_failure_in_the_block_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with SafetensorsWriter(tmp_path, [("a", (2,), "F32"), ("b", (2,), "F32")], 8) as writer:
            writer.write("a", 0, np.zeros(2, np.float32))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert not list(tmp_path.iterdir())


def test_a_failure_while_publishing_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = SafetensorsWriter(tmp_path, [("a", (2,), "F32"), ("b", (2,), "F32")], 8)
    writer.write("a", 0, np.zeros(2, np.float32))
    writer.write("b", 0, np.zeros(2, np.float32))
    blocker = tmp_path / "model-00002-of-00002.safetensors"
    blocker.mkdir()  # a rename onto a folder fails
    with pytest.raises(StorageError, match="Is a directory"):
        writer.finish()
    assert list(tmp_path.iterdir()) == [blocker]


def test_a_leftover_of_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.outsize-partial").write_bytes(b"x" * 10_000)
    with SafetensorsWriter(tmp_path, [("a", (2,), "F32")]) as writer:
        writer.write("a", 0, np.ones(2, np.float32))
    source = SafetensorsSource(tmp_path)
    assert source.read("a", 0, 2).tolist() == [1, 1]
    source.close()


def test_tensors_out_of_order_are_a_bug_of_the_caller(tmp_path: Path) -> None:
    writer = SafetensorsWriter(tmp_path, [("a", (2,), "F32"), ("b", (2,), "F32")])
    with pytest.raises(AssertionError):
        writer.write("b", 0, np.ones(2, np.float32))
    with pytest.raises(AssertionError, match="a is incomplete"):
        writer.finish()
    writer.abort()
