"""A tiny model on disk and a run that was trained on it, for the verbs that come after training."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import outsize
from outsize.models.registry import plain_model
from outsize.results import TrainResult

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "tie_word_embeddings": True,
    "max_position_embeddings": 128,
    "bos_token_id": 256,
    "eos_token_id": 256,
}
TEMPLATE = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}"


def write_model(folder: Path, template: str | None = None, **changes: object) -> Path:
    """Write config, random fp32 weights and a tokenizer of bytes into a new folder."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    plain_model(CONFIG | changes, torch.float32).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary | {"<end>": 256}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    fast.chat_template = template
    fast.save_pretrained(folder)
    return folder


def train_tiny(folder: Path, **changes: object) -> TrainResult:
    """Write a model and text into `folder` and train two steps into its `run`."""
    model = write_model(folder / "model", template=TEMPLATE, **changes)
    data = folder / "data.txt"
    data.write_text("\n".join(f"{i} times {i} is {i * i}." for i in range(400)))
    return outsize.train(
        str(model),
        data=str(data),
        steps=2,
        tokens_per_step=128,
        max_seq_length=64,
        learning_rate=1e-2,
        output=str(folder / "run"),
        memory="8GiB",
    )


def edit_json(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
