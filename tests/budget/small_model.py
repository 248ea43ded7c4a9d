"""A small Llama with weights and a tokenizer on disk, for tests that run whole verbs."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from outsize.models.registry import plain_model

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 8192,
    "tie_word_embeddings": True,
    "max_position_embeddings": 1024,
    "bos_token_id": 256,
    "eos_token_id": 256,
}


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer whose tokens are bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(BPE(vocabulary | {"<end>": 256}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    fast.save_pretrained(folder)


def write_model(folder: Path, **changes: object) -> Path:
    """Write config, random weights and tokenizer into a new folder and return it."""
    folder.mkdir(parents=True)
    config = CONFIG | changes
    torch.manual_seed(0)
    plain_model(config, torch.float32).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    return folder


def write_text(path: Path) -> Path:
    """Write a few pages of text to train on."""
    path.write_text("\n".join(f"Line {i} says that {i} times {i} is {i * i}." for i in range(3000)))
    return path
