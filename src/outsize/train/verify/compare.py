"""The largest difference between two runs, number by number."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from outsize.plan.layout import STATE_COMPONENTS
from outsize.train.verify.plain import PlainSpan
from outsize.train.verify.state import StoredState

_CHUNK_ELEMENTS = 2**21


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference of two tensors; NaN when either holds one.

    Cost: nothing when they are equal, else two copies in fp64.
    """
    if torch.equal(found, expected):
        return 0.0
    return (found.double() - expected.double()).abs().max().item()


def worse(first: float, second: float) -> float:
    """Return the larger of two differences; NaN is larger than all."""
    return math.nan if math.isnan(first) or math.isnan(second) else max(first, second)


def loss_difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """Return the largest difference of two runs' losses; NaN when one run has more of them."""
    if len(found) != len(expected):
        return math.nan
    as_tensors = (torch.tensor(losses, dtype=torch.float64) for losses in (found, expected))
    return largest_difference(*as_tensors)


def state_differences(stored: StoredState, spans: Iterable[PlainSpan]) -> dict[str, float]:
    """Return the largest difference of `master`, `exp_avg` and `exp_avg_sq` over all parameters.

    Raises:
        FormatError: the state file is cut.
        StorageError: the disk failed.

    Cost: 8 MiB of the stored state at a time.
    """
    found = dict.fromkeys(STATE_COMPONENTS, 0.0)
    compared: set[str] = set()
    for span in spans:
        compared.add(span.name)
        for component, values in span.values.items():
            for first in range(0, values.numel(), _CHUNK_ELEMENTS):
                expected = values[first : first + _CHUNK_ELEMENTS]
                start = span.start + first
                read = stored.read(span.name, component, start, start + expected.numel())
                found[component] = worse(found[component], largest_difference(read, expected))
    assert compared == set(stored.tensors), compared ^ set(stored.tensors)
    return found
