"""Prompts become ids, ids become text piece by piece, and what cannot work is refused in words."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from outsize.errors import ModelError, UsageError
from outsize.infer.prompt import (
    TextStream,
    check_prompt,
    encode_prompt,
    load_tokenizer,
    stop_ids,
)
from outsize.options import GenerateOptions
from outsize.spec.model import LayerSpec, ModelSpec

TEMPLATE = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}"


def byte_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """One token is one byte, so characters come in pieces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary | {"<end>": 256}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    fast.chat_template = template
    return fast


TOKENIZER = byte_tokenizer()


def options(prompt: str = "hi", **changes: object) -> GenerateOptions:
    return GenerateOptions(model="m", prompt=prompt, **changes)


def spec(max_positions: int | None = 100) -> ModelSpec:
    layer = LayerSpec(name="l", kind="block", signature="s", tensors=())
    return ModelSpec(
        architecture="A",
        layers=(layer,),
        hidden_size=8,
        vocab_size=257,
        tied=None,
        projection=None,
        max_positions=max_positions,
        attention_heads=0,
        attention_head_size=0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@given(text=st.text(max_size=30))
def test_the_pieces_of_an_answer_are_its_text(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]
    stream, shown = TextStream(TOKENIZER), ""
    for count in range(1, len(ids) + 1):
        shown += stream.advance(ids[:count])
    assert shown + stream.finish(ids) == stream.text(ids) == text


def test_half_a_character_is_held_back() -> None:
    ids = TOKENIZER("é!")["input_ids"]
    stream = TextStream(TOKENIZER)
    assert [stream.advance(ids[:n]) for n in (1, 2, 3)] == ["", "é", "!"]
    assert stream.finish(ids) == ""


def test_an_answer_that_ends_within_a_character_shows_that() -> None:
    ids = TOKENIZER("aé")["input_ids"][:2]
    stream = TextStream(TOKENIZER)
    assert stream.advance(ids) == ""
    assert stream.finish(ids) == "a\ufffd"


def test_a_template_is_used_when_there_is_one() -> None:
    tokenizer = byte_tokenizer(TEMPLATE)
    ids, chat = encode_prompt(tokenizer, options())
    assert chat
    assert tokenizer.decode(ids) == "<hi>"
    ids, chat = encode_prompt(tokenizer, options(chat=False))
    assert not chat
    assert tokenizer.decode(ids) == "hi"


def test_a_chat_without_a_template_is_refused() -> None:
    with pytest.raises(UsageError, match="m has no chat template; leave --chat out"):
        encode_prompt(TOKENIZER, options(chat=True))
    assert encode_prompt(TOKENIZER, options())[1] is False


def test_a_template_that_fails_is_named() -> None:
    broken = byte_tokenizer("{{ raise_exception('no system role') }}")
    with pytest.raises(ModelError, match="The chat template of m fails: no system role"):
        encode_prompt(broken, options())


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(UsageError, match="prompt must be text that is not empty"):
        options(prompt="")
    with pytest.raises(UsageError, match="The prompt has no tokens for this model"):
        encode_prompt(byte_tokenizer("{{ '' }}"), options())


@pytest.mark.parametrize(
    ("content", "expected"),
    [({"eos_token_id": 3}, {3}), ({"eos_token_id": [3, 9]}, {3, 9}), ({}, {256}), (None, {256})],
)
def test_the_model_says_what_ends_an_answer(tmp_path: Path, content, expected) -> None:
    if content is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(content))
    assert stop_ids(tmp_path, TOKENIZER) == expected


def test_a_model_without_an_end_never_stops(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": null}')
    assert stop_ids(tmp_path, TOKENIZER) == frozenset()


def test_what_is_too_long_is_refused_with_a_number_that_works(folder: Path) -> None:
    prompt = [1] * 60
    with pytest.raises(UsageError, match=r"made for 100 tokens.*Try --max-new-tokens 40\."):
        check_prompt(options(max_new_tokens=41), spec(), prompt, folder)
    assert check_prompt(options(max_new_tokens=40), spec(), prompt, folder) is None
    assert check_prompt(options(max_new_tokens=9999), spec(None), prompt, folder) is None
    with pytest.raises(UsageError, match=r"the prompt has 100 .* Shorten the prompt"):
        check_prompt(options(max_new_tokens=1), spec(), [1] * 100, folder)


def test_a_long_rope_is_not_crossed(tmp_path: Path) -> None:
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 16}
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": rope}))
    message = r"position embedding of m changes after 16 tokens.*Try --max-new-tokens 6\."
    with pytest.raises(UsageError, match=message):
        check_prompt(options(max_new_tokens=7), spec(), [1] * 10, tmp_path)
    assert check_prompt(options(max_new_tokens=6), spec(), [1] * 10, tmp_path) is None
    assert check_prompt(options(max_new_tokens=7), spec(), [1] * 17, tmp_path) is None


def test_a_foreign_tokenizer_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="gives token 300, and the model knows 257 tokens"):
        check_prompt(options(), spec(), [1, 300], folder)


def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=f"The tokenizer in {tmp_path} cannot be read"):
        load_tokenizer(tmp_path)
