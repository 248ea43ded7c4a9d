"""Masks that hide later tokens are known, the kernel is told, and the bits stay the same."""

import gc
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from outsize.models import masked_attention as module
from outsize.models.layered import Batch
from outsize.models.masked_attention import additive_mask, masked_attention
from outsize.models.registry import build

TOKENS, SIZE = 600, 16
KERNEL = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


class Calls(TorchDispatchMode):
    """Whether each call of the fused kernel, and of its backward, had a mask and was causal."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[bool, bool]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (KERNEL, BACKWARD):
            names = [argument.name for argument in func._schema.arguments]
            given = dict(zip(names, args, strict=False)) | (kwargs or {})
            self.found.append((given.get("attn_mask") is not None, bool(given.get("is_causal"))))
        return func(*args, **(kwargs or {}))


def packed(*lengths: int) -> Tensor:
    """Mask of a row with examples of so many tokens each, and one token's padding."""
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return (owner[:, None] == owner).tril()[None, None]


def sliding(window: int) -> Tensor:
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    return mask.triu(1 - window)[None, None]


def run(function, mask: Tensor, dtype: torch.dtype, heads: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    part = SimpleNamespace(is_causal=True, num_key_value_groups=heads // 2)
    inputs = [
        torch.randn(2, n, TOKENS, SIZE, generator=generator).to(dtype).requires_grad_()
        for n in (heads, 2, 2)
    ]
    output, _ = function(part, *inputs, mask, scaling=0.3)
    flowing = torch.randn(output.shape, generator=generator).to(dtype)
    return [output, *torch.autograd.grad(output, inputs, flowing)]


@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("mask", [packed(600), packed(1, 500, 99), sliding(70)])
def test_the_bits_are_those_of_the_mask_alone(mask, dtype, heads) -> None:
    made = additive_mask(mask, dtype)
    assert made.dtype == dtype
    with Calls() as calls:
        found = run(masked_attention, made, dtype, heads)
    assert calls.found == [(True, True)] * 2
    expected = run(sdpa_attention_forward, mask, dtype, heads)
    assert all(map(torch.equal, found, expected))
    assert all(bool(tensor.any()) for tensor in found)


def one_later(row: int, column: int) -> Tensor:
    mask = packed(TOKENS)
    mask[0, 0, row, column] = True
    return mask


@pytest.mark.parametrize(
    "mask", [one_later(0, 1), one_later(3, 599), one_later(255, 256), one_later(598, 599)]
)
def test_a_token_that_sees_a_later_one_still_does(mask) -> None:
    made = additive_mask(mask, torch.float32)
    with Calls() as calls:
        found = run(masked_attention, made, torch.float32, 2)
    assert calls.found == [(True, False)] * 2
    expected = run(sdpa_attention_forward, mask, torch.float32, 2)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("mask", [packed(TOKENS), packed(TOKENS)[:, :, -1:]])
def test_other_masks_are_left_to_transformers(mask) -> None:
    query, key = torch.randn(1, 2, mask.shape[2], SIZE), torch.randn(1, 2, TOKENS, SIZE)
    part = SimpleNamespace(is_causal=True, num_key_value_groups=1)
    made = mask if mask.shape[2] == TOKENS else additive_mask(mask, torch.float32)
    with Calls() as calls:
        found, _ = masked_attention(part, query, key, key, made)
    assert calls.found == [(True, False)]
    assert torch.equal(found, sdpa_attention_forward(part, query, key, key, mask)[0])


def test_a_kernel_that_cannot_do_both_is_never_asked_to(monkeypatch) -> None:
    monkeypatch.setattr(module, "_kernel_takes_both", lambda dtype: False)
    made = additive_mask(packed(300, 300), torch.float32)
    with Calls() as calls:
        run(masked_attention, made, torch.float32, 2)
    assert calls.found == [(True, False)] * 2


def test_what_is_known_of_a_mask_ends_with_it() -> None:
    gc.collect()
    before = len(module._CAUSAL)
    made = additive_mask(packed(300, 300), torch.float32)
    assert len(module._CAUSAL) == before + 1
    del made
    gc.collect()
    assert len(module._CAUSAL) == before


def test_the_blocks_of_a_model_use_it() -> None:
    config = {
        "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
    }  # fmt: skip
    model = build(config, torch.float32)
    ids = torch.arange(24).view(1, 24)
    positions = torch.cat([torch.arange(10), torch.arange(14)]).view(1, 24)
    context = model.context(Batch(input_ids=ids, position_ids=positions, labels=ids))
    weights = {t.name: torch.randn(t.shape) for t in model.spec.layers[1].tensors}
    with Calls() as calls:
        model.block(1, weights, torch.randn(1, 24, 32), context)
    assert calls.found == [(True, True)]
