"""The formula's number of parameters is the one that stands on the models' own pages."""

import pytest
from decoder_configs import blocks_of

from outsize.formats.model_spec import spec_from_config


def config(
    family: str,
    vocab: int,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    key_heads: int | None = None,
    **entries: object,
) -> dict[str, object]:
    name = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    sizes = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads or heads,
    }
    return {"architectures": [name], **sizes, **entries}


TIED = {"tie_word_embeddings": True}
HEAD_64, HEAD_128, HEAD_256 = {"head_dim": 64}, {"head_dim": 128}, {"head_dim": 256}
FULL = {"sliding_window": None, "layer_types": ["full_attention"] * 30}

PUBLISHED: dict[str, tuple[dict[str, object], int]] = {
    "SmolLM2-135M": (config("Llama", 49152, 576, 1536, 30, 9, 3, **TIED), 134_515_008),
    "SmolLM2-360M": (config("Llama", 49152, 960, 2560, 32, 15, 5, **TIED), 361_821_120),
    "TinyLlama-1.1B": (config("Llama", 32000, 2048, 5632, 22, 32, 4), 1_100_048_384),
    "Llama-2-7B": (config("Llama", 32000, 4096, 11008, 32, 32), 6_738_415_616),
    "Llama-3-8B": (config("Llama", 128256, 4096, 14336, 32, 32, 8), 8_030_261_248),
    "Llama-3-70B": (config("Llama", 128256, 8192, 28672, 80, 64, 8), 70_553_706_496),
    "Llama-3.2-1B": (
        config("Llama", 128256, 2048, 8192, 16, 32, 8, **HEAD_64, **TIED),
        1_235_814_400,
    ),
    "Qwen2.5-0.5B": (config("Qwen2", 151936, 896, 4864, 24, 14, 2, **TIED), 494_032_768),
    "Qwen2.5-7B": (config("Qwen2", 152064, 3584, 18944, 28, 28, 4), 7_615_616_512),
    "Qwen3-0.6B": (
        config("Qwen3", 151936, 1024, 3072, 28, 16, 8, **HEAD_128, **TIED),
        596_049_920,
    ),
    "Qwen3-4B": (
        config("Qwen3", 151936, 2560, 9728, 36, 32, 8, **HEAD_128, **TIED),
        4_022_468_096,
    ),
    "Qwen3-32B": (config("Qwen3", 151936, 5120, 25600, 64, 64, 8, **HEAD_128), 32_762_123_264),
    "Gemma-2B": (config("Gemma", 256000, 2048, 16384, 18, 8, 1, **HEAD_256), 2_506_172_416),
    "Gemma-2-2B": (config("Gemma2", 256000, 2304, 9216, 26, 8, 4, **HEAD_256), 2_614_341_888),
    "Gemma-3-270M": (config("Gemma3", 262144, 640, 2048, 18, 4, 1, **HEAD_256), 268_098_176),
    "Gemma-3-1B": (config("Gemma3", 262144, 1152, 6912, 26, 4, 1, **HEAD_256), 999_885_952),
    "GPT-2": ({"model_type": "gpt2"}, 124_439_808),
    "GPT-2 XL": (
        {"model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25},
        1_557_611_200,
    ),
    "Phi-2": (config("Phi", 51200, 2560, 10240, 32, 32), 2_779_683_840),
    "Phi-3-mini": (config("Phi3", 32064, 3072, 8192, 32, 32), 3_821_079_552),
    "Mistral-7B": (config("Mistral", 32000, 4096, 14336, 32, 32, 8), 7_241_732_096),
    "Ministral-8B": (
        config("Ministral", 131072, 4096, 12288, 36, 32, 8, **HEAD_128),
        8_019_808_256,
    ),
    "Pythia-160M": (config("GPTNeoX", 50304, 768, 3072, 12, 12), 162_322_944),
    "GPT-NeoX-20B": (config("GPTNeoX", 50432, 6144, 24576, 44, 64), 20_554_567_680),
    "Granite-3-2B": (config("Granite", 49155, 2048, 8192, 40, 32, 8, **TIED), 2_533_531_648),
    "OLMo-1B": (config("Olmo", 50304, 2048, 8192, 16, 16, **TIED), 1_176_764_416),
    "OLMo-2-1B": (config("Olmo2", 100352, 2048, 8192, 16, 16), 1_484_916_736),
    "OLMo-3-7B": (config("Olmo3", 100278, 4096, 11008, 32, 32), 7_298_011_136),
    "SmolLM3-3B": ({"model_type": "smollm3"}, 3_075_098_624),
    "StableLM-2-1.6B": (
        config("StableLm", 100352, 2048, 5632, 24, 32, use_qkv_bias=True),
        1_644_515_328,
    ),
    "StarCoder2-3B": (config("Starcoder2", 49152, 3072, 12288, 30, 24, 2), 3_030_371_328),
    "Command-R": ({"model_type": "cohere"}, 34_980_831_232),
    "Command-R7B": (config("Cohere2", 256000, 4096, 14336, 32, 32, 8), 8_028_033_024),
    "GLM-4-9B": (config("Glm", 151552, 4096, 13696, 40, 32, 2), 9_399_951_360),
    "GLM-4-9B-0414": (config("Glm4", 151552, 4096, 13696, 40, 32, 2), 9_400_279_040),
    "Seed-OSS-36B": (config("SeedOss", 155136, 5120, 27648, 64, 80, 8), 36_151_104_512),
    "EXAONE-4-1.2B": (
        config("Exaone4", 102400, 2048, 4096, 30, 32, 8, **HEAD_64, **TIED, **FULL),
        1_279_391_488,
    ),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_number_of_parameters_is_the_published_one(model) -> None:
    entries, num_parameters = PUBLISHED[model]
    assert spec_from_config(entries).num_elements == num_parameters


def test_gemma_3_sees_everything_in_every_sixth_layer() -> None:
    entries, _ = PUBLISHED["Gemma-3-1B"]
    blocks = blocks_of({**entries, "sliding_window": 512})
    full = [number for number, block in enumerate(blocks, 1) if block.attention == "full"]
    assert full == [6, 12, 18, 24]
    assert {block.window_tokens for block in blocks} == {None, 512}
