"""A line of small bars that shows how a number went."""

import math
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw `values` in at most `width` characters; more values than that are averaged in groups.

    A value that is not finite is drawn as `?`.
    """
    num = min(width, len(values))
    groups = [values[i * len(values) // num : (i + 1) * len(values) // num] for i in range(num)]
    means = [sum(group) / len(group) for group in groups]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return "?" * num
    low, high = min(finite), max(finite)
    return "".join(_bar(mean, low, high) for mean in means)


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "?"
    height = (value - low) / (high - low) if high > low else 0.0
    return _BARS[round(height * (len(_BARS) - 1))]
