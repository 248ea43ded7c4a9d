"""The C library's heap, set up so that large temporaries reuse their pages.

By default glibc maps each large block afresh and returns it at each free; the first touch of a
fresh page costs more than the arithmetic on it. Here blocks of every size come from one heap that
keeps its pages; `trim_heap` gives free ones back between phases, so that the peak of one phase is
not carried into the next. Kept pages are part of the memory prediction.

Pages of library files that only an import needed are given back too: how many of them the kernel
maps around each access depends on what its page cache holds, so they would make every prediction
that starts from "what is there now" a matter of luck.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

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


def drop_file_pages(proc: Path = Path("/proc")) -> None:
    """Unmap the pages of code and constants of library files; those in use come back by
    themselves.

    Nothing is lost: only mappings that cannot be written and of which no page was ever changed are
    touched. Cost: the next access to each page is a minor fault.
    """
    library = _glibc()
    if library is None:
        return
    for start, length in _unchanged_file_mappings(proc):
        library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)


def _unchanged_file_mappings(proc: Path) -> Iterator[tuple[int, int]]:
    """Yield address and length of the process's read-only mappings of files that equal the file."""
    try:
        lines = (proc / "self/smaps").read_text().splitlines()
    except OSError:
        return
    header: list[str] = []
    changed_kib = 0
    for line in [*lines, ""]:
        words = line.split()
        if words and words[0].endswith(":"):
            # A changed page is anonymous; one that is swapped out no longer counts as that.
            changed_kib += int(words[1]) if words[0] in ("Anonymous:", "Swap:") else 0
            continue
        if _is_read_only_file(header) and not changed_kib:
            start, _, stop = header[0].partition("-")
            yield int(start, 16), int(stop, 16) - int(start, 16)
        header, changed_kib = words, 0


def _is_read_only_file(header: list[str]) -> bool:
    return len(header) > 5 and header[5].startswith("/") and header[1] in ("r--p", "r-xp")


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    try:
        library.gnu_get_libc_version  # noqa: B018 -- its presence is the question
    except AttributeError:
        return None
    return library
