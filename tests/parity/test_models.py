"""A decoder run layer by layer equals Transformers' own forward and plain autograd, bit for bit.

Every architecture of the table is here with a tiny random configuration, in fp32 and bf16, with
packed rows and with whole ones. Both sides share the loss function, which has a test of its own
against Transformers' loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from outsize.models.architectures import ARCHITECTURES
from outsize.models.layered import Batch, LayeredModel
from outsize.models.registry import build, plain_model
from outsize.ops.loss import linear_cross_entropy
from outsize.values import PackedAttention

VOCAB_SIZE = 61
PADDING_ID = 3
SCALE = 0.125

TINY = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": PADDING_ID,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

GPT_2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": VOCAB_SIZE}

# Families whose default width of a head does not follow from the other sizes.
NEED_HEAD_DIM = ("Ministral", "Helium", "Gemma", "Qwen3", "SeedOss", "Glm")

VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    **{
        a.name: (a.name, {"head_dim": 8} if a.name.startswith(NEED_HEAD_DIM) else {})
        for a in ARCHITECTURES
    },
    "Llama tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "Llama biased": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "Llama 3 rope": (
        "LlamaForCausalLM",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "Mistral sliding": ("MistralForCausalLM", {"sliding_window": 5}),
    "Qwen2 sliding": (
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "Gemma2 sliding": ("Gemma2ForCausalLM", {"sliding_window": 5, "head_dim": 8}),
    "Gemma3 sliding": (
        "Gemma3ForCausalLM",
        {"sliding_window": 5, "head_dim": 8, "sliding_window_pattern": 2},
    ),
    "Gemma3 softcap": ("Gemma3ForCausalLM", {"final_logit_softcapping": 3.0}),
    "Phi-3 long rope": (
        "Phi3ForCausalLM",
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [1.5, 2.0, 3.0, 4.0],
                "original_max_position_embeddings": 16,
            },
            "original_max_position_embeddings": 16,
        },
    ),
    "GPT-2 by layer": ("GPT2LMHeadModel", {"scale_attn_by_inverse_layer_idx": True}),
    "GPT-2 untied": ("GPT2LMHeadModel", {"tie_word_embeddings": False}),
    "Granite scaled": (
        "GraniteForCausalLM",
        {"logits_scaling": 6.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22},
    ),
    "SmolLM3 mixed": ("SmolLM3ForCausalLM", {"no_rope_layer_interval": 2}),
}

MATRIX = [
    pytest.param(
        name, dtype, packed, id=f"{name}-{str(dtype)[6:]}-{'packed' if packed else 'whole'}"
    )
    for name in VARIANTS
    for dtype in (torch.float32, torch.bfloat16)
    for packed in (False, True)
]


@dataclass(frozen=True)
class Case:
    plain: torch.nn.Module
    layered: LayeredModel
    batch: Batch


def make_case(
    variant: str, dtype: torch.dtype, packed: bool, packed_attention: PackedAttention = "masked"
) -> Case:
    name, options = VARIANTS[variant]
    architecture = next(a for a in ARCHITECTURES if a.name == name)
    base = GPT_2 if name.startswith("GPT2") else TINY
    config = architecture.model_class().config_class(**{**base, **options})
    torch.manual_seed(len(variant))
    plain = plain_model(config, dtype, packed_attention)
    with torch.no_grad():
        for (
            parameter
        ) in plain.parameters():  # norms of exactly one and biases of zero would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.05)
    layered = build(config, dtype, packed_attention)
    return Case(plain=plain, layered=layered, batch=make_batch(packed))


def make_batch(packed: bool) -> Batch:
    generator = torch.Generator().manual_seed(5)
    input_ids = torch.randint(0, VOCAB_SIZE // 2, (2, 24), generator=generator)
    input_ids[0, 4] = input_ids[1, 9] = PADDING_ID
    labels = torch.randint(0, VOCAB_SIZE, (2, 24), generator=generator)
    labels[:, ::5] = -100
    position_ids = torch.arange(24).repeat(2, 1)
    if packed:
        position_ids[0, 7:] -= 7
        position_ids[1, 20:] -= 20
    return Batch(input_ids=input_ids, position_ids=position_ids, labels=labels)


def whole_model_hidden(plain: torch.nn.Module, batch: Batch) -> Tensor:
    outputs = plain.base_model(
        input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
    )
    return outputs.last_hidden_state


def layer_parameters(case: Case, index: int) -> dict[str, Tensor]:
    """Give a layer's weights as leaves of their own, with the tied table for the head."""
    values = dict(case.plain.named_parameters())
    spec = case.layered.spec
    names = [t.name for t in spec.layers[index].tensors]
    if index == len(spec.layers) - 1 and spec.tied:
        names.append(spec.tied)
    return {n: values[n].detach().clone().requires_grad_() for n in names}


def forward_boundaries(case: Case) -> list[Tensor]:
    """Return the hidden state after each layer but the head."""
    context = case.layered.context(case.batch)
    with torch.no_grad():
        boundaries = [case.layered.embed(layer_parameters(case, 0), case.batch)]
        for index in range(1, len(case.layered.spec.layers) - 1):
            parameters = layer_parameters(case, index)
            boundaries.append(case.layered.block(index, parameters, boundaries[-1], context))
    return boundaries


def layered_gradients(case: Case) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the layers backward one at a time, each recomputed from its detached input."""
    layered, batch = case.layered, case.batch
    context, boundaries = layered.context(batch), forward_boundaries(case)
    last = len(layered.spec.layers) - 1
    hidden = boundaries[-1].requires_grad_()
    head = layer_parameters(case, last)
    loss = layered.loss(head, hidden, batch.labels, SCALE)
    loss.backward()
    gradients = {n: t.grad for n, t in head.items()}
    for index in range(last - 1, 0, -1):
        upstream, hidden = hidden.grad, boundaries[index - 1].requires_grad_()
        parameters = layer_parameters(case, index)
        layered.block(index, parameters, hidden, context).backward(upstream)
        gradients |= {n: t.grad for n, t in parameters.items()}
    add_embedding_gradients(case, gradients, hidden.grad)
    return loss.detach(), gradients


def add_embedding_gradients(case: Case, gradients: dict[str, Tensor], upstream: Tensor) -> None:
    parameters = layer_parameters(case, 0)
    table_name = case.layered.token_table
    table = parameters[table_name].detach()
    rows = case.batch.input_ids.unique()
    parameters[table_name] = table[rows].requires_grad_()
    case.layered.embed_rows(parameters, case.batch, rows).backward(upstream)
    table_gradient = gradients.get(table_name, torch.zeros_like(table))
    table_gradient[rows] = table_gradient[rows] + parameters[table_name].grad
    gradients |= {n: t.grad for n, t in parameters.items()}
    gradients[table_name] = table_gradient


def assert_bitwise_equal(measured: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert set(measured) == set(expected)
    unequal = [name for name, value in expected.items() if not torch.equal(measured[name], value)]
    assert unequal == []


@pytest.mark.parametrize(("variant", "dtype", "packed"), MATRIX)
def test_logits_equal_transformers_forward_bitwise(
    variant: str, dtype: torch.dtype, packed: bool
) -> None:
    case = make_case(variant, dtype, packed)
    with torch.no_grad():
        hidden = forward_boundaries(case)[-1]
        head = layer_parameters(case, len(case.layered.spec.layers) - 1)
        logits = case.layered.logits(head, hidden)
        expected = case.plain(
            input_ids=case.batch.input_ids, position_ids=case.batch.position_ids, use_cache=False
        ).logits
    assert torch.equal(logits, expected)


SPLIT = [(*case.values, "split") for case in MATRIX if case.values[2]]


@pytest.mark.parametrize(
    ("variant", "dtype", "packed", "packed_attention"),
    [*((*case.values, "masked") for case in MATRIX), *SPLIT],
)
def test_gradients_equal_whole_model_autograd_bitwise(
    variant: str, dtype: torch.dtype, packed: bool, packed_attention: PackedAttention
) -> None:
    case = make_case(variant, dtype, packed, packed_attention)
    architecture = next(a for a in ARCHITECTURES if a.name == VARIANTS[variant][0])
    projection, config = case.plain.get_output_embeddings(), case.plain.config
    hidden = whole_model_hidden(case.plain, case.batch)
    expected_loss = linear_cross_entropy(
        hidden.view(-1, hidden.shape[-1]),
        projection.weight,
        projection.bias,
        case.batch.labels.view(-1),
        scale=SCALE,
        softcap=architecture.softcap(config),
        logit_scale=architecture.logit_scale(config),
    )
    expected_loss.backward()
    loss, gradients = layered_gradients(case)
    assert torch.equal(loss, expected_loss.detach())
    assert_bitwise_equal(gradients, {n: p.grad for n, p in case.plain.named_parameters()})


@pytest.mark.parametrize("variant", VARIANTS)
def test_examples_one_at_a_time_give_the_same_up_to_rounding(variant: str) -> None:
    masked, split = (
        make_case(variant, torch.float32, True, attention) for attention in ("masked", "split")
    )
    for ours, theirs in zip(forward_boundaries(split), forward_boundaries(masked), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    (_, ours), (_, theirs) = layered_gradients(split), layered_gradients(masked)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_equals_transformers_loss(variant: str) -> None:
    case = make_case(variant, torch.float32, packed=True)
    head = layer_parameters(case, len(case.layered.spec.layers) - 1)
    labels = case.batch.labels
    with torch.no_grad():
        loss = case.layered.loss(head, forward_boundaries(case)[-1], labels, 1.0)
        expected = case.plain(
            input_ids=case.batch.input_ids,
            position_ids=case.batch.position_ids,
            labels=labels,
            shift_labels=labels,
            num_items_in_batch=1,
            use_cache=False,
        ).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_a_batch_do_not_see_each_other(variant: str, packed: bool) -> None:
    case = make_case(variant, torch.float32, packed)
    together = forward_boundaries(case)[-1]
    for row in range(2):
        batch = Batch(
            input_ids=case.batch.input_ids[row : row + 1],
            position_ids=case.batch.position_ids[row : row + 1],
            labels=case.batch.labels[row : row + 1],
        )
        alone = forward_boundaries(Case(plain=case.plain, layered=case.layered, batch=batch))[-1]
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_sequences_do_not_see_each_other(variant: str) -> None:
    case = make_case(variant, torch.float32, packed=True)
    packed = forward_boundaries(case)[-1]
    second = Batch(
        input_ids=case.batch.input_ids[:1, 7:],
        position_ids=case.batch.position_ids[:1, 7:],
        labels=case.batch.labels[:1, 7:],
    )
    alone = forward_boundaries(Case(plain=case.plain, layered=case.layered, batch=second))[-1]
    torch.testing.assert_close(packed[:1, 7:], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_computed_buffers_equal_those_of_the_real_model(variant: str) -> None:
    case = make_case(variant, torch.bfloat16, packed=False)
    measured = dict(case.layered._skeleton.base.named_buffers())
    expected = {
        n: b
        for n, b in case.plain.base_model.named_buffers()
        if not n.startswith(("layers.", "h."))
    }
    assert_bitwise_equal(measured, expected)
    assert {n: b.dtype for n, b in measured.items()} == {n: b.dtype for n, b in expected.items()}
