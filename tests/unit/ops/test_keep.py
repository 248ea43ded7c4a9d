"""What the forward of a block left is what its recompute gets, without the costly operations."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from outsize.ops.keep import ATTENTION, PRODUCTS, Keep, KeptResults, Reuse

TOKENS, WIDTH, HEADS = 12, 16, 2


class CountCalls(TorchDispatchMode):
    """Counts what really runs: modes entered later take calls away from it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func] += 1
        return func(*args, **(kwargs or {}))

    def costly(self) -> int:
        return sum(self.counts[operation] for operation in (ATTENTION, *PRODUCTS))


class Weights:
    """Matrices that lie end to end in one buffer, as a layer's weights do."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        numbers = sum(torch.Size(shape).numel() for shape in shapes)
        self.bytes = torch.empty(4 * numbers, dtype=torch.uint8)
        flat = self.bytes.view(torch.float32)
        flat.copy_(torch.randn(numbers, generator=torch.Generator().manual_seed(1)) / 4)
        parts = flat.split([torch.Size(shape).numel() for shape in shapes])
        self.tensors = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def leaves(self) -> list[Tensor]:
        return [tensor.detach().requires_grad_() for tensor in self.tensors]


def block(hidden: Tensor, weights: list[Tensor]) -> Tensor:
    """Attention and a gated unit, two of whose matrices have the same shape."""
    fused, out, gate, up, bias, down = weights
    heads = functional.linear(hidden, fused).view(1, TOKENS, 3, HEADS, WIDTH // HEADS)
    query, key, value = heads.permute(2, 0, 3, 1, 4)
    attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    hidden = hidden + functional.linear(attended.transpose(1, 2).flatten(2), out)
    gated = functional.silu(functional.linear(hidden, gate)) * functional.linear(hidden, up, bias)
    return hidden + gated @ down


SHAPES = (
    (3 * WIDTH, WIDTH),
    (WIDTH, WIDTH),
    (24, WIDTH),
    (24, WIDTH),
    (24,),
    (24, WIDTH),
)


def places(attention: KeptResults | None, products: KeptResults | None, num_bytes: int = 2**16):
    found = {}
    if attention is not None:
        found[ATTENTION] = (attention, torch.zeros(num_bytes, dtype=torch.uint8))
    if products is not None:
        buffer = torch.zeros(num_bytes, dtype=torch.uint8)
        found |= dict.fromkeys(PRODUCTS, (products, buffer))
    return found


def hidden_state() -> Tensor:
    return torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(2))


def gradients(weights: list[Tensor], hidden: Tensor, output: Tensor) -> list[Tensor]:
    output.backward(torch.ones_like(output))
    return [found.grad for found in (*weights, hidden)]


def plain_gradients(weights: Weights) -> list[Tensor]:
    leaves, hidden = weights.leaves(), hidden_state().requires_grad_()
    return gradients(leaves, hidden, block(hidden, leaves))


def recomputed_gradients(weights: Weights, found) -> tuple[list[Tensor], int]:
    """Gradients of a block whose forward ran before, and how many costly operations ran again."""
    with torch.no_grad(), Keep(found, weights.bytes):
        block(hidden_state(), weights.tensors)
    moved = Weights(*SHAPES)  # at another address, as after a fetch
    leaves, hidden = moved.leaves(), hidden_state().requires_grad_()
    with CountCalls() as calls, Reuse(found, moved.bytes):
        output = block(hidden, leaves)
    return gradients(leaves, hidden, output), calls.costly()


@pytest.mark.parametrize(
    ("attention", "products", "num_left"), [(True, False, 5), (False, True, 1), (True, True, 0)]
)
def test_kept_operations_do_not_run_again_and_gradients_are_the_same_bits(
    attention, products, num_left
):
    weights = Weights(*SHAPES)
    found = places(KeptResults() if attention else None, KeptResults() if products else None)
    recomputed, num_run = recomputed_gradients(weights, found)
    assert num_run == num_left
    for ours, plain in zip(recomputed, plain_gradients(weights), strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("num_bytes", [0, 64, 1024, 4000])
def test_what_does_not_fit_runs_again(num_bytes):
    weights = Weights(*SHAPES)
    recomputed, num_run = recomputed_gradients(
        weights, places(KeptResults(), KeptResults(), num_bytes)
    )
    assert 0 < num_run <= 6
    for ours, plain in zip(recomputed, plain_gradients(weights), strict=True):
        assert torch.equal(ours, plain)


def test_calls_that_look_the_same_are_told_apart_by_their_order():
    weights = Weights((WIDTH, WIDTH))

    def twice(hidden: Tensor, matrix: Tensor) -> Tensor:
        return functional.linear(functional.linear(hidden, matrix), matrix)

    kept = places(None, KeptResults())
    with torch.no_grad(), Keep(kept, weights.bytes):
        expected = twice(hidden_state(), *weights.tensors)
    with CountCalls() as calls, Reuse(kept, weights.bytes):
        assert torch.equal(twice(hidden_state(), *weights.tensors), expected)
    assert calls.costly() == 0


def test_products_are_written_where_they_are_kept():
    weights = Weights((WIDTH, WIDTH), (24, WIDTH))
    buffer = torch.zeros(2**16, dtype=torch.uint8)
    kept = dict.fromkeys(PRODUCTS, (KeptResults(), buffer))
    first, second = weights.tensors
    with torch.no_grad(), Keep(kept, weights.bytes):
        results = [functional.linear(hidden_state(), m) for m in (first, second)]
    start, end = buffer.data_ptr(), buffer.data_ptr() + buffer.numel()
    assert all(start <= result.data_ptr() < end for result in results)
    for result, matrix in zip(results, (first, second), strict=True):
        assert torch.equal(result, functional.linear(hidden_state(), matrix))


@pytest.mark.parametrize("change", ["add_", "out", "view", "list"])
def test_only_what_is_changed_in_place_runs_again(change):
    weights = Weights((WIDTH, WIDTH), (24, WIDTH))
    first, second = weights.tensors
    kept = places(None, KeptResults())
    with torch.no_grad(), Keep(kept, weights.bytes):
        left, right = (functional.linear(hidden_state(), m) for m in (first, second))
        before = [left.clone(), right.clone()]
        if change == "add_":
            left.add_(1)
        elif change == "out":
            torch.mul(right, 2, out=left.new_empty(right.shape))
            torch.neg(left, out=left)
        elif change == "list":
            torch._foreach_mul_([left, hidden_state()], 2)
        else:
            left[:, 3:, 2:].mul_(2)
            hidden_state()[..., :4].add_(right[..., :4])  # is only read
    with CountCalls() as calls, Reuse(kept, weights.bytes):
        again = [functional.linear(hidden_state(), m) for m in (first, second)]
    assert calls.costly() == 1
    assert all(torch.equal(a, b) for a, b in zip(again, before, strict=True))


def test_products_with_other_matrices_run_again():
    weights = Weights((WIDTH, WIDTH))
    other = torch.ones(WIDTH, WIDTH)
    kept = places(None, KeptResults())
    with torch.no_grad(), Keep(kept, weights.bytes):
        functional.linear(hidden_state(), other)
    with CountCalls() as calls, Reuse(kept, weights.bytes):
        functional.linear(hidden_state(), other)
    assert calls.costly() == 1


def test_a_result_changed_in_place_afterwards_is_kept_as_it_was():
    weights = Weights((WIDTH, WIDTH))
    kept = places(None, KeptResults())
    with torch.no_grad(), Keep(kept, weights.bytes):
        result = functional.linear(hidden_state(), *weights.tensors)
        before = result.clone()
        result.add_(1)
    with Reuse(kept, weights.bytes):
        assert torch.equal(functional.linear(hidden_state(), *weights.tensors), before)


def test_a_new_forward_forgets_the_one_before():
    weights = Weights((WIDTH, WIDTH))
    kept = places(None, KeptResults())
    linear = nn.Linear(WIDTH, WIDTH, bias=False)
    linear.weight = nn.Parameter(weights.tensors[0])
    for _ in range(2):
        with torch.no_grad(), Keep(kept, weights.bytes):
            linear(hidden_state())
    with CountCalls() as calls, Reuse(kept, weights.bytes):
        linear(hidden_state())
    assert calls.costly() == 0
