"""The chunked loss against PyTorch's own, value and gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from outsize.ops.loss import (
    default_chunk_tokens,
    linear_cross_entropy,
    linear_cross_entropy_reference,
)

NUM_TOKENS, HIDDEN_SIZE, VOCAB_SIZE = 37, 12, 101


def make_inputs(dtype: torch.dtype, *, bias: bool = False) -> tuple[list[Tensor | None], Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = [(NUM_TOKENS, HIDDEN_SIZE), (VOCAB_SIZE, HIDDEN_SIZE), (VOCAB_SIZE,)]
    tensors = [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]
    labels = torch.randint(0, VOCAB_SIZE, (NUM_TOKENS,), generator=generator)
    labels[4:9] = -100
    return [*tensors[:2], tensors[2] if bias else None], labels


def value_and_gradients(function, inputs, labels, **options) -> list[Tensor]:
    loss = function(*inputs, labels, **options)
    given = [t for t in inputs if t is not None]
    return [loss.detach(), *torch.autograd.grad(loss, given)]


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("logit_scale", [1.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk_tokens", [None, 1, 8, 1000])
def test_fp32_equals_reference(softcap, logit_scale, bias, chunk_tokens) -> None:
    inputs, labels = make_inputs(torch.float32, bias=bias)
    options = {"scale": 0.05, "softcap": softcap, "logit_scale": logit_scale}
    measured = value_and_gradients(
        linear_cross_entropy, inputs, labels, chunk_tokens=chunk_tokens, **options
    )
    expected = value_and_gradients(linear_cross_entropy_reference, inputs, labels, **options)
    torch.testing.assert_close(measured, expected, rtol=1e-5, atol=1e-6)


def test_reference_is_cross_entropy_of_pytorch() -> None:
    (hidden, weight, _), labels = make_inputs(torch.float32)
    expected = functional.cross_entropy(hidden @ weight.t(), labels, reduction="sum") * 0.5
    loss = linear_cross_entropy_reference(hidden, weight, None, labels, scale=0.5)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_bf16_is_within_its_rounding(softcap) -> None:
    inputs, labels = make_inputs(torch.bfloat16)
    measured = value_and_gradients(
        linear_cross_entropy, inputs, labels, scale=1.0, chunk_tokens=8, softcap=softcap
    )
    exact = [t.detach().double().requires_grad_() if t is not None else None for t in inputs]
    expected = value_and_gradients(
        linear_cross_entropy_reference, exact, labels, scale=1.0, softcap=softcap
    )
    for value, reference in zip(measured, expected, strict=True):
        difference = (value.double() - reference).norm() / reference.norm()
        assert difference < 2**-7
    assert [t.dtype for t in measured] == [torch.float32, torch.bfloat16, torch.bfloat16]


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_fp64_gradients_equal_finite_differences(softcap) -> None:
    inputs, labels = make_inputs(torch.float64, bias=True)
    options = {"scale": 0.7, "chunk_tokens": 16, "softcap": softcap, "logit_scale": 0.8}
    _, *gradients = value_and_gradients(linear_cross_entropy, inputs, labels, **options)
    step = 1e-6
    for position, gradient in enumerate(gradients):
        direction = torch.randn_like(gradient)
        values = []
        for sign in (1, -1):
            moved = [t.detach().clone() for t in inputs]
            moved[position] += sign * step * direction
            values.append(linear_cross_entropy(*moved, labels, **options))
        slope = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_labels_ignored_gives_zero(dtype) -> None:
    inputs, labels = make_inputs(dtype, bias=True)
    measured = value_and_gradients(
        linear_cross_entropy, inputs, torch.full_like(labels, -100), scale=1.0
    )
    assert all(torch.count_nonzero(t) == 0 for t in measured)


def test_a_certain_wrong_answer_has_a_finite_loss() -> None:
    hidden = torch.tensor([[200.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]])
    loss = linear_cross_entropy(hidden, weight, None, torch.tensor([1]), scale=1.0)
    assert loss.item() == pytest.approx(400.0)


def test_upstream_gradient_multiplies() -> None:
    inputs, labels = make_inputs(torch.float32)
    plain = value_and_gradients(linear_cross_entropy, inputs, labels, scale=1.0)
    loss = linear_cross_entropy(*inputs, labels, scale=1.0) * 3.0
    tripled = torch.autograd.grad(loss, inputs[:2])
    torch.testing.assert_close(list(tripled), [3.0 * g for g in plain[1:]])


@pytest.mark.parametrize("without", ["no_grad", "frozen"])
def test_value_alone_equals_value_with_gradients(without) -> None:
    inputs, labels = make_inputs(torch.float32)
    with_gradients = linear_cross_entropy(*inputs, labels, scale=1.0)
    if without == "frozen":
        inputs = [None if t is None else t.detach() for t in inputs]
    with torch.set_grad_enabled(without == "frozen"):
        alone = linear_cross_entropy(*inputs, labels, scale=1.0)
    assert not alone.requires_grad
    assert torch.equal(alone, with_gradients.detach())


def test_frozen_weight_gets_no_gradient_buffer() -> None:
    (hidden, weight, _), labels = make_inputs(torch.float32)
    loss = linear_cross_entropy(hidden, weight.detach(), None, labels, scale=1.0)
    assert loss.grad_fn.gradients.weight is None
    assert loss.grad_fn.gradients.hidden is not None


def test_gradient_buffer_is_handed_over_without_a_copy() -> None:
    (hidden, weight, _), labels = make_inputs(torch.float32)
    loss = linear_cross_entropy(hidden, weight, None, labels, scale=1.0)
    address = loss.grad_fn.gradients.weight.data_ptr()
    loss.backward()
    assert weight.grad.data_ptr() == address


def test_default_chunk_is_bounded_in_bytes_and_tokens() -> None:
    assert 16e6 <= default_chunk_tokens(49152) * 49152 * 2 <= 25e6
    assert default_chunk_tokens(10_000_000) == 16


def test_equals_loss_of_transformers() -> None:
    from transformers.loss.loss_utils import ForCausalLMLoss

    (hidden, weight, _), labels = make_inputs(torch.float32)
    logits = hidden.detach() @ weight.detach().t()
    expected = ForCausalLMLoss(logits[None], labels[None], VOCAB_SIZE)
    shifted = torch.cat([labels[1:], torch.tensor([-100])])
    scale = 1.0 / int((shifted != -100).sum())
    loss = linear_cross_entropy(hidden, weight, None, shifted, scale=scale)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
