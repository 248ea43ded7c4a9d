"""The rate of the elementwise operations of a block: norm, gated activation, residual.

They run as Transformers writes them, forward and backward, operation by operation. Their bytes are
counted, not assumed: every tensor that an operation reads or writes, views left out.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu
from torch.utils._python_dispatch import TorchDispatchMode

from outsize.probe.compute import Bench, small_numbers

_HIDDEN_BYTES = 40
_GATE_BYTES = 16
"""Bytes that are there at the same time for one element of the hidden state and of the gate."""


def elementwise_rate(bench: Bench) -> float:
    """Return the bytes a second that the operations read and write.

    Cost: at most about `working_bytes` on the device.
    """
    work = _mix(bench)
    with _CountBytes() as counted:
        work()
    return counted.num_bytes / bench.watch.median_s(work, bench.sizes.point_s)


def _mix(bench: Bench) -> Callable[[], object]:
    sizes = bench.sizes
    token_bytes = _HIDDEN_BYTES * sizes.hidden_size + _GATE_BYTES * sizes.intermediate_size
    tokens = max(1, min(sizes.tokens, sizes.working_bytes // token_bytes))
    make = partial(small_numbers, bench, "bfloat16")
    hidden = make(tokens, sizes.hidden_size).requires_grad_()
    weight = make(sizes.hidden_size).requires_grad_()
    gate = make(tokens, sizes.intermediate_size).requires_grad_()
    up = make(tokens, sizes.intermediate_size).requires_grad_()
    gradients = make(tokens, sizes.hidden_size), make(tokens, sizes.intermediate_size)

    def work() -> object:
        outputs = hidden + rms_norm(hidden, weight), silu(gate) * up
        return torch.autograd.grad(outputs, (hidden, weight, gate, up), gradients)

    return work


def rms_norm(hidden: Tensor, weight: Tensor) -> Tensor:
    """Normalise `[tokens, hidden_size]` as the decoders of the Llama family do."""
    wide = hidden.to(torch.float32)
    variance = wide.pow(2).mean(-1, keepdim=True)
    return weight * (wide * torch.rsqrt(variance + 1e-6)).to(hidden.dtype)


class _CountBytes(TorchDispatchMode):
    """Counts the bytes of the operations that run while it is active.

    Attributes:
        num_bytes: read and written so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes: int = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation and count it."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.num_bytes += sum(map(_stored_bytes, _tensors((args, kwargs, result))))
        return result


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _stored_bytes(tensor: Tensor) -> int:
    """Return the bytes behind a tensor; one that is expanded has fewer than elements."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())
