"""Which token comes next: free functions over the logits of one position.

In the order of Transformers' own warpers: temperature, then the `top_k` likeliest, then the
likeliest that together have `top_p`.

Shape suffix: V vocabulary.
"""

import torch
from torch import Tensor


def choose_token(
    logits_V: Tensor,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    generator: torch.Generator,
) -> int:
    """Return the next token's id.

    Args:
        logits_V: fp32 logits.
        temperature: 0 takes the likeliest token, the first of several equal ones.
        top_k: 0 keeps all.
        top_p: 1 keeps all.
        generator: decides, when temperature is not 0.

    Cost: a few times the logits.
    """
    if temperature == 0:
        return int(logits_V.argmax())
    scores_V = keep_top_p(keep_top_k(logits_V / temperature, top_k), top_p)
    return int(torch.multinomial(scores_V.softmax(0), 1, generator=generator))


def keep_top_k(scores_V: Tensor, top_k: int) -> Tensor:
    """Set all scores below the `top_k`-th largest to minus infinity; 0 keeps all."""
    if not 0 < top_k < len(scores_V):
        return scores_V
    smallest_kept = scores_V.topk(top_k).values[-1]
    return scores_V.masked_fill(scores_V < smallest_kept, -torch.inf)


def keep_top_p(scores_V: Tensor, top_p: float) -> Tensor:
    """Set the unlikely tail, which together has at most 1 - `top_p`, to minus infinity.

    The likeliest token always stays. From "The Curious Case of Neural Text Degeneration",
    arXiv:1904.09751, section 3.1.
    """
    if top_p >= 1:
        return scores_V
    sorted_V, order_V = scores_V.sort()
    is_tail_V = sorted_V.softmax(0).cumsum(0) <= 1 - top_p
    is_tail_V[-1] = False
    return scores_V.masked_fill(
        is_tail_V.new_empty(is_tail_V.shape).scatter(0, order_V, is_tail_V), -torch.inf
    )
