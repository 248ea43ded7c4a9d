"""The tensors of decoder blocks: names inside the block, and shapes in words.

A shape is a tuple of words that `decoder.py` turns into numbers: `hidden` is the width of the
hidden state, `inner` that of the feed-forward part, `query` and `key` the widths of all heads
together, `head` one head's. A tensor that a config can switch off names the entry that does. The
order is that of the modules' own parameters, which is the order of a state dict.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One tensor of a layer.

    Attributes:
        name: its name inside the layer; `{i}` is the number of a head.
        shape: words for its sizes, outermost first.
        when: the entry that must be true for the tensor to be there; None when it always is.
        unless: the entry that must be false; None when there is none.
        times: word for how many there are, numbered by `{i}`; None for one.
        is_norm: whether it is a `nn.LayerNorm`'s, which has no weight decay whatever its name.
    """

    name: str
    shape: tuple[str, ...]
    when: str | None = None
    unless: str | None = None
    times: str | None = None
    is_norm: bool = False


Parts = tuple[Part, ...]


def linear(name: str, rows: str, columns: str, bias: bool | str = False) -> Parts:
    """Return a linear layer; `bias` is whether it has one, or the entry that says so."""
    weight = Part(name=f"{name}.weight", shape=(rows, columns))
    when = bias if isinstance(bias, str) else None
    return (weight, Part(name=f"{name}.bias", shape=(rows,), when=when)) if bias else (weight,)


def norm(name: str, size: str = "hidden", *, bias: bool = False, when: str | None = None) -> Parts:
    """Return a norm over `size` elements."""
    weight = Part(name=f"{name}.weight", shape=(size,), when=when)
    return (weight, Part(name=f"{name}.bias", shape=(size,), when=when)) if bias else (weight,)


def layer_norm(name: str, *, unless: str | None = None) -> Parts:
    """Return a `nn.LayerNorm` with weight and bias."""
    names = (f"{name}.weight", f"{name}.bias")
    return tuple(Part(name=n, shape=("hidden",), unless=unless, is_norm=True) for n in names)


def _conv1d(name: str, rows: str, columns: str) -> Parts:
    """Return GPT-2's linear layer, whose weight lies transposed."""
    weight = Part(name=f"{name}.weight", shape=(columns, rows))
    return (weight, Part(name=f"{name}.bias", shape=(rows,)))


def _attention(bias: bool | str, output_bias: bool | str, output: str = "o_proj") -> Parts:
    return (
        *linear("self_attn.q_proj", "query", "hidden", bias),
        *linear("self_attn.k_proj", "key", "hidden", bias),
        *linear("self_attn.v_proj", "key", "hidden", bias),
        *linear(f"self_attn.{output}", "hidden", "query", output_bias),
    )


def _gated(bias: bool | str = False) -> Parts:
    gate = linear("mlp.gate_proj", "inner", "hidden", bias)
    return (*gate, *_plain("up_proj", "down_proj", bias))


def _plain(up: str, down: str, bias: bool | str) -> Parts:
    first = linear(f"mlp.{up}", "inner", "hidden", bias)
    return (*first, *linear(f"mlp.{down}", "hidden", "inner", bias))


def _norms(*names: str) -> Parts:
    return tuple(part for name in names for part in norm(f"{name}_layernorm"))


_ONE_BIAS = _attention("attention_bias", "attention_bias")
_QUERY_BIAS = _attention("attention_bias", False)
_NO_BIAS = _attention(False, False)
_TWO_NORMS = _norms("input", "post_attention")
_TWO_LAYER_NORMS = (*layer_norm("input_layernorm"), *layer_norm("post_attention_layernorm"))
_AFTER_NORMS = _norms("post_attention", "post_feedforward")
_FOUR_NORMS = _norms("input", "post_attention", "pre_feedforward", "post_feedforward")
_HEAD_NORMS = (*norm("self_attn.q_norm", "head"), *norm("self_attn.k_norm", "head"))
_WIDE_NORMS = (*norm("self_attn.q_norm", "query"), *norm("self_attn.k_norm", "key"))
_JOINT_MLP = (
    *linear("mlp.gate_up_proj", "two_inner", "hidden"),
    *linear("mlp.down_proj", "hidden", "inner"),
)

LLAMA = (*_ONE_BIAS, *_gated("mlp_bias"), *_TWO_NORMS)
MISTRAL = (*_NO_BIAS, *_gated(), *_TWO_NORMS)
QWEN2 = (*_attention(True, False), *_gated(), *_TWO_NORMS)
QWEN3 = (*_ONE_BIAS, *_HEAD_NORMS, *_gated(), *_TWO_NORMS)
GEMMA = (*_ONE_BIAS, *_gated(), *_TWO_NORMS)
GEMMA2 = (*_ONE_BIAS, *_gated(), *_FOUR_NORMS)
GEMMA3 = (*_ONE_BIAS, *_HEAD_NORMS, *_gated(), *_FOUR_NORMS)
OLMO = (*_ONE_BIAS, *_gated())
OLMO2 = (*_ONE_BIAS, *_WIDE_NORMS, *_gated(), *_AFTER_NORMS)
EXAONE4 = (*_NO_BIAS, *_HEAD_NORMS, *_gated(), *_AFTER_NORMS)
GLM = (*_QUERY_BIAS, *_JOINT_MLP, *_TWO_NORMS)
GLM4 = (
    *_QUERY_BIAS,
    *_JOINT_MLP,
    *_norms("input", "post_attention", "post_self_attn", "post_mlp"),
)
PHI3 = (
    *linear("self_attn.o_proj", "hidden", "query"),
    *linear("self_attn.qkv_proj", "query_and_keys", "hidden"),
    *_JOINT_MLP,
    *_TWO_NORMS,
)
PHI = (
    *_attention(True, True, "dense"),
    *norm("self_attn.q_layernorm", "hidden_of_head", bias=True, when="qk_layernorm"),
    *norm("self_attn.k_layernorm", "hidden_of_head", bias=True, when="qk_layernorm"),
    *_plain("fc1", "fc2", True),
    *layer_norm("input_layernorm"),
)
STARCODER2 = (
    *_attention("use_bias", "use_bias"),
    *_plain("c_fc", "c_proj", "use_bias"),
    *_TWO_LAYER_NORMS,
)
ARCEE = (*_ONE_BIAS, *_plain("up_proj", "down_proj", "mlp_bias"), *_TWO_NORMS)
NEMOTRON = (*_ONE_BIAS, *_plain("up_proj", "down_proj", "mlp_bias"), *_TWO_LAYER_NORMS)
SEED_OSS = (
    *_attention("attention_bias", "attention_out_bias"),
    *_gated("mlp_bias"),
    *_TWO_NORMS,
)
HELIUM = (
    *_QUERY_BIAS[:-1],
    *linear("self_attn.o_proj", "hidden", "hidden"),
    *_gated("mlp_bias"),
    *_TWO_NORMS,
)
COHERE2 = (*_ONE_BIAS, *_gated(), *_norms("input"))
COHERE = (
    *_ONE_BIAS,
    Part(name="self_attn.q_norm.weight", shape=("heads", "head"), when="use_qk_norm"),
    Part(name="self_attn.k_norm.weight", shape=("key_heads", "head"), when="use_qk_norm"),
    *_gated(),
    *_norms("input"),
)
STABLELM = (
    *_attention("use_qkv_bias", False),
    Part(
        name="self_attn.q_layernorm.norms.{i}.weight",
        shape=("head",),
        when="qk_layernorm",
        times="heads",
    ),
    Part(
        name="self_attn.k_layernorm.norms.{i}.weight",
        shape=("head",),
        when="qk_layernorm",
        times="key_heads",
    ),
    *_gated(),
    *layer_norm("input_layernorm"),
    *layer_norm("post_attention_layernorm", unless="use_parallel_residual"),
)
GPT_NEOX = (
    *_TWO_LAYER_NORMS,
    *linear("attention.query_key_value", "three_hidden", "hidden", "attention_bias"),
    *linear("attention.dense", "hidden", "hidden", "attention_bias"),
    *_plain("dense_h_to_4h", "dense_4h_to_h", True),
)
GPT2 = (
    *layer_norm("ln_1"),
    *_conv1d("attn.c_attn", "three_hidden", "hidden"),
    *_conv1d("attn.c_proj", "hidden", "hidden"),
    *layer_norm("ln_2"),
    *_conv1d("mlp.c_fc", "inner", "hidden"),
    *_conv1d("mlp.c_proj", "hidden", "inner"),
)
