"""The C library's heap, set up so that large temporaries reuse their pages.

By default glibc maps each large block afresh and returns it at each free; the first touch of a
fresh page costs more than the arithmetic on it. Here blocks of every size come from one heap that
keeps its pages; `trim_heap` gives free ones back between phases, so that the peak of one phase is
not carried into the next. Kept pages are part of the memory prediction.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

_TOP_PAD_BYTES = 16 * 2**20


def keep_heap_pages() -> bool:
    """Serve blocks of every size from one heap and keep its pages; returns False where glibc is not
    the C library.
    """
    library = _glibc()
    if library is None:
        return False
    # One arena: the heaps of other threads are limited to 64 MiB each and would each keep pages of
    # their own.
    settings = (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, 2**31 - 1),
        (_M_TOP_PAD, _TOP_PAD_BYTES),
        (_M_ARENA_MAX, 1),
    )
    return all(library.mallopt(option, value) == 1 for option, value in settings)


def trim_heap() -> None:
    """Give free pages of the heap back to the kernel."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    try:
        library.gnu_get_libc_version  # noqa: B018 -- its presence is the question
    except AttributeError:
        return None
    return library
