"""Attention with a mask that knows which scores need not be computed.

Transformers hides the examples of a packed row from each other with a mask, and PyTorch's fused
kernel then computes all scores of the row, those of later tokens too, although a causal mask hides
them all. The kernel underneath takes both, a mask and the promise that it is causal. With the
promise it leaves out the blocks of keys that lie after a block of queries. They are hidden, so they
would add zeros: as long as values are finite, outputs and gradients stay the same, bit for bit, at
three quarters of the time for rows of 1024 tokens and less for longer ones.

It is registered as an attention of its own (Transformers' `AttentionInterface`), which calls
Transformers' and exchanges the kernel.
"""

import functools
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "outsize_masked"

_FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
_ROWS = 256
"""Rows of a mask that are looked at together."""

_CAUSAL: MutableMapping[Tensor, bool] = WeakIdKeyDictionary()
"""Whether a mask that is alive hides from every token all that come later."""


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what PyTorch's attention makes of a boolean mask `[B, 1, T, T]` in every call; what
    `masked_attention` wants to know of it is found out now.
    """
    hidden = mask.logical_not()
    made = torch.zeros_like(mask, dtype=dtype).masked_fill_(hidden, -torch.inf)
    _CAUSAL[made] = _hides_later(hidden) and _kernel_takes_both(dtype)
    return made


def masked_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return the attention as Transformers' own function does, with the same bits.

    Only masks from `additive_mask` are known to be causal.
    """
    if attention_mask is None or not _CAUSAL.get(attention_mask, False):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    with _AlsoCausal():
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


class _AlsoCausal(TorchFunctionMode):
    """While active, masks of PyTorch's attention are causal."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        own = _attention if func is scaled_dot_product_attention else func
        return own(*args, **kwargs)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    choice = torch._fused_sdp_choice(  # what PyTorch itself asks first
        query, key, value, attn_mask, dropout_p, is_causal, **options
    )
    is_fused = choice == SDPBackend.FLASH_ATTENTION.value and query.device.type == "cpu"
    if not is_fused or options.get("enable_gqa"):
        return scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, **options
        )
    scale = options.get("scale")
    return _FUSED(query, key, value, dropout_p, True, attn_mask=attn_mask, scale=scale)[0]


def _hides_later(hidden: Tensor) -> bool:
    """Tell whether everything above the diagonal is hidden."""
    if hidden.shape[-2] != hidden.shape[-1]:
        return False
    for start in range(0, hidden.shape[-1], _ROWS):
        rows = hidden[..., start : start + _ROWS, start:]
        later = torch.ones(rows.shape[-2:], dtype=torch.bool).triu_(1)
        if not bool(rows.logical_or(later.logical_not()).all()):
            return False
    return True


@functools.cache
def _kernel_takes_both(dtype: torch.dtype) -> bool:
    """Tell whether this PyTorch's kernel does what is said above, by a small example."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 2, 3 * _ROWS - 13, 64)
    inputs = [torch.randn(shape, generator=generator).to(dtype) for _ in range(3)]
    flowing = torch.randn(shape, generator=generator).to(dtype)
    example = torch.arange(shape[2]) // (_ROWS + 10)
    hidden = (example[:, None] != example).logical_or_(torch.ones(shape[2], shape[2]).triu(1) > 0)
    mask = torch.zeros(1, 1, *hidden.shape, dtype=dtype).masked_fill_(hidden, -torch.inf)

    def results(is_causal: bool) -> list[Tensor]:
        output = _FUSED(*inputs, 0.0, is_causal, attn_mask=mask)
        return [*output, *_BACKWARD(flowing, *inputs, *output, 0.0, is_causal, attn_mask=mask)]

    try:
        return all(map(torch.equal, results(False), results(True)))
    except RuntimeError:  # it refuses one beside the other
        return False


AttentionInterface.register(NAME, masked_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
