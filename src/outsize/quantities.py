"""Bytes, seconds and rates as people write and read them.

Inside the program every quantity is a plain number in its base unit (bytes are `int`, seconds
`float`) and its name says so; only this module turns them into text and back.
"""

import math
import re

_BINARY = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?(?:e\d+)?)\s*([kmgtp]?)(i?)(b?)\s*", re.IGNORECASE)

SIZE_RULE = (
    "a size is a number with a unit: KiB, MiB, GiB, TiB are powers of 1024; KB, MB, GB, TB "
    "(or k, m, g, t alone) are powers of 1000; no unit means bytes; for example 1GiB, 1.5GB, 768MiB"
)


def parse_bytes(text: str) -> int:
    """Read a size such as `768MiB`, `1.5GB`, `2g` or `1e9` as a positive whole number of bytes.

    Raises:
        ValueError: the text is no size by `SIZE_RULE`, or it is below one byte.
    """
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"{text!r} is not a size; {SIZE_RULE}")
    factor = (_BINARY if match[3] else _DECIMAL)[match[2].lower()]
    value = float(match[1]) * factor
    if not math.isfinite(value) or value < 1 or value >= 2**63:
        raise ValueError(f"{text!r} is not a usable size; {SIZE_RULE}")
    return int(value)


def format_bytes(count: int) -> str:
    """Write a byte count with three digits in binary units, for example `1.21 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1000 or unit == "TiB":
            return f"{int(value)} B" if unit == "B" else f"{_three_digits(value)} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def format_seconds(seconds: float) -> str:
    """Write a duration as a person would: `0.42 s`, `4 min 05 s`, `2 h 07 min`, `3 d 04 h`."""
    if seconds < 99.95:
        return f"{_three_digits(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def format_rate(bytes_per_s: float) -> str:
    """Write a transfer rate in decimal units, as drives are sold: `1.35 GB/s`."""
    value = float(bytes_per_s)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 1000 or unit == "TB":
            return f"{_three_digits(value)} {unit}/s"
        value /= 1000
    raise AssertionError("unreachable")


def _three_digits(value: float) -> str:
    magnitude = abs(value)
    if magnitude >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if magnitude >= 9.995 else f"{value:.2f}"


def align_up(count: int, alignment: int) -> int:
    """Return the smallest multiple of `alignment` that is not below `count`."""
    return -(-count // alignment) * alignment
