"""Output projection and cross-entropy in one, chunk by chunk: the full logits never exist.

The loss needs every logit of a token once, and so does its gradient. So the forward makes the
logits of a few tokens, turns them in place into their own gradient, and adds that to the gradients
of the hidden states and of the weight before the next tokens come. The plain version that says what
is computed is `linear_cross_entropy_reference`.

Shape suffixes: N tokens, C tokens of one chunk, V vocabulary, H hidden size.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

IGNORED_LABEL = -100
"""Tokens with this label have no loss, as in Transformers."""

_CHUNK_BYTES = (
    20_000_000  # of bf16 logits; a chunk of fp32 logits has the same tokens and twice the bytes
)
_ROW_BLOCK_BYTES = (
    2**21
)  # fp32 rows that are turned into probabilities at once; they stay in the second-level cache


def default_chunk_tokens(vocab_size: int) -> int:
    """Return how many tokens' logits are made at once: about 20 MB in bf16, at least 16 tokens."""
    return max(16, _CHUNK_BYTES // (2 * vocab_size) // 16 * 16)


def linear_cross_entropy(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    labels_N: Tensor,
    *,
    scale: float,
    chunk_tokens: int | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    weight_gradient: Tensor | None = None,
) -> Tensor:
    """Return `scale` times the summed cross-entropy of `hidden @ weight.T + bias` as a scalar.

    Matrix products run in the dtype of the inputs, the softmax in fp32 (fp64 for fp64 inputs). The
    gradients are made in the forward; without grad mode, or when no input requires a gradient, only
    the loss is.

    Args:
        hidden_NH: what enters the projection.
        weight_VH: the projection, of the same dtype.
        bias_V: added to the logits; None for none.
        labels_N: int64 token ids, `IGNORED_LABEL` for tokens without loss.
        scale: factor on the loss, applied to the gradients in fp32 before they are rounded.
        chunk_tokens: tokens whose logits exist at once; None for `default_chunk_tokens`.
        softcap: logits become `softcap * tanh(logits / softcap)`, after `logit_scale`; None for no
            cap.
        logit_scale: factor on the logits.
        weight_gradient: `[V, H]` buffer that the weight's gradient is written into instead of being
            handed to autograd; None for a new one that is.

    Cost:
        With C = `chunk_tokens`: `[C, V]` logits and two blocks of 2 MiB (fp32) until the forward
        ends; with gradients also `[V, H]` and `[N, H]` in the inputs' dtype until the backward
        hands them over, without a copy; when labels are ignored, `[N, H]` once more for the tokens
        that are left, and in the forward a second one for their gradient.
    """
    options = _Options(
        scale=scale,
        chunk_tokens=chunk_tokens or default_chunk_tokens(weight_VH.shape[0]),
        softcap=softcap,
        logit_scale=logit_scale,
        weight_gradient=weight_gradient,
    )
    inputs = (hidden_NH, weight_VH, bias_V)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        return _LinearCrossEntropy.apply(*inputs, labels_N, options)
    loss, _ = _run(*inputs, labels_N, options, needs_gradient=(False, False, False))
    return loss


def linear_cross_entropy_reference(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    labels_N: Tensor,
    *,
    scale: float,
    chunk_tokens: int | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
) -> Tensor:
    """Return the same as `linear_cross_entropy` from whole logits, without chunks."""
    logits_NV = functional.linear(hidden_NH, weight_VH, bias_V)
    logits_NV = logits_NV.to(_softmax_dtype(logits_NV.dtype)) * logit_scale
    if softcap is not None:
        logits_NV = softcap * torch.tanh(logits_NV / softcap)
    loss = functional.cross_entropy(
        logits_NV, labels_N, ignore_index=IGNORED_LABEL, reduction="sum"
    )
    return loss * scale


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    scale: float
    chunk_tokens: int
    softcap: float | None
    logit_scale: float
    weight_gradient: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gradients:
    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        labels_N: Tensor,
        options: _Options,
    ) -> Tensor:
        needs = ctx.needs_input_grad[:3]
        loss, gradients = _run(
            hidden_NH, weight_VH, bias_V, labels_N, options, needs_gradient=needs
        )
        if options.weight_gradient is not None:
            gradients = replace(gradients, weight=None)
        ctx.gradients = gradients
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        # Dropped from ctx so that autograd takes the buffers over; it copies what others hold.
        gradients, ctx.gradients = ctx.gradients, None
        assert gradients is not None, "the gradients of this loss were already handed over"
        factor = grad_loss.item()
        for gradient in (gradients.hidden, gradients.weight, gradients.bias):
            if gradient is not None and factor != 1.0:
                gradient.mul_(factor)
        return gradients.hidden, gradients.weight, gradients.bias, None, None


def _run(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    labels_N: Tensor,
    options: _Options,
    *,
    needs_gradient: tuple[bool, bool, bool],
) -> tuple[Tensor, _Gradients]:
    kept = torch.nonzero(labels_N != IGNORED_LABEL).squeeze(1)
    keeps_all = kept.numel() == labels_N.numel()
    hidden = hidden_NH if keeps_all else hidden_NH[kept]
    labels = labels_N if keeps_all else labels_N[kept]
    gradients = _Gradients(
        hidden=torch.empty_like(hidden) if needs_gradient[0] else None,
        weight=_weight_sum(weight_VH, options) if _wants_weight(needs_gradient, options) else None,
        bias=_bias_sum(bias_V) if needs_gradient[2] and bias_V is not None else None,
    )
    loss = _accumulate(hidden, weight_VH, bias_V, labels, options, gradients)
    grad_hidden = gradients.hidden
    if grad_hidden is not None and not keeps_all:
        grad_hidden = torch.zeros_like(hidden_NH).index_copy_(0, kept, grad_hidden)
    grad_bias = None if gradients.bias is None else gradients.bias.to(weight_VH.dtype)
    return loss, _Gradients(hidden=grad_hidden, weight=gradients.weight, bias=grad_bias)


def _accumulate(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    labels_N: Tensor,
    options: _Options,
    gradients: _Gradients,
) -> Tensor:
    """Return the scaled loss and add to `gradients`, chunk after chunk."""
    num_tokens, vocab_size = hidden_NH.shape[0], weight_VH.shape[0]
    losses_N = hidden_NH.new_empty(num_tokens, dtype=_softmax_dtype(hidden_NH.dtype))
    logits = hidden_NH.new_empty(min(options.chunk_tokens, num_tokens), vocab_size)
    for start in range(0, num_tokens, options.chunk_tokens):
        chunk = slice(start, min(start + options.chunk_tokens, num_tokens))
        hidden_CH, logits_CV = hidden_NH[chunk], logits[: chunk.stop - start]
        if bias_V is None:
            torch.mm(hidden_CH, weight_VH.t(), out=logits_CV)
        else:
            torch.addmm(bias_V, hidden_CH, weight_VH.t(), out=logits_CV)
        losses_N[chunk] = _logits_to_gradient_(logits_CV, labels_N[chunk], options)
        if gradients.hidden is not None:
            torch.mm(logits_CV, weight_VH, out=gradients.hidden[chunk])
        if gradients.weight is not None:
            gradients.weight.addmm_(logits_CV.t(), hidden_CH)
        if gradients.bias is not None:
            gradients.bias.add_(logits_CV.sum(0, dtype=gradients.bias.dtype))
    return losses_N.sum() * options.scale


def _logits_to_gradient_(logits_CV: Tensor, labels_C: Tensor, options: _Options) -> Tensor:
    """Overwrite logits with the scaled loss's gradient; return the unscaled losses `[C]`."""
    num_tokens, vocab_size = logits_CV.shape
    dtype = _softmax_dtype(logits_CV.dtype)
    rows = min(num_tokens, max(1, _ROW_BLOCK_BYTES // (4 * vocab_size)))
    scores = logits_CV.new_empty(rows, vocab_size, dtype=dtype)
    probabilities = torch.empty_like(scores)
    losses_C = torch.empty(num_tokens, dtype=dtype, device=logits_CV.device)
    for start in range(0, num_tokens, rows):
        logits_RV, label_R1 = logits_CV[start : start + rows], labels_C[start : start + rows, None]
        score, probability = scores[: len(logits_RV)], probabilities[: len(logits_RV)]
        _scores(logits_RV, options, out=score)
        torch.softmax(score, dim=1, out=probability)
        # The largest probability is 1 / sum(exp(score - max)), which gives log-sum-exp for free.
        log_sum = score.amax(dim=1) - probability.amax(dim=1).log()
        losses_C[start : start + rows] = log_sum - score.gather(1, label_R1).squeeze(1)
        probability.scatter_add_(1, label_R1, probability.new_full(label_R1.shape, -1.0))
        _score_gradient_(probability, score, options)
        logits_RV.copy_(probability)
    return losses_C


def _scores(logits_RV: Tensor, options: _Options, *, out: Tensor) -> None:
    out.copy_(logits_RV)
    if options.logit_scale != 1.0:
        out.mul_(options.logit_scale)
    if options.softcap is not None:
        out.div_(options.softcap).tanh_().mul_(options.softcap)


def _score_gradient_(gradient: Tensor, score: Tensor, options: _Options) -> None:
    """Turn d loss / d score into d (scale * loss) / d logit; may overwrite `score`."""
    if options.softcap is not None:
        # d tanh(x) / dx = 1 - tanh(x)^2, and score = softcap * tanh(x).
        gradient.mul_(score.div_(options.softcap).square_().neg_().add_(1.0))
    gradient.mul_(options.scale * options.logit_scale)


def _wants_weight(needs_gradient: tuple[bool, bool, bool], options: _Options) -> bool:
    return needs_gradient[1] or (options.weight_gradient is not None and needs_gradient[0])


def _weight_sum(weight_VH: Tensor, options: _Options) -> Tensor:
    given = options.weight_gradient
    return torch.zeros_like(weight_VH) if given is None else given.zero_()


def _bias_sum(bias_V: Tensor) -> Tensor:
    return torch.zeros_like(bias_V, dtype=_softmax_dtype(bias_V.dtype))


def _softmax_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
