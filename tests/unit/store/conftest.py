"""Page-aligned buffers and broken system calls for the store tests."""

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outsize.store.kernel import Kernel

Pages = Callable[..., memoryview]


@pytest.fixture
def pages() -> Iterator[Pages]:
    """Makes page-aligned buffers; at the end nothing of the store may still look into them."""
    maps: list[tuple[mmap.mmap, memoryview]] = []

    def make(size_bytes: int, content: bytes | None = None) -> memoryview:
        memory = mmap.mmap(-1, size_bytes)
        if content is not None:
            memory[:] = content
        maps.append((memory, memoryview(memory)))
        return maps[-1][1]

    yield make
    for memory, view in maps:
        view.release()
        memory.close()


@pytest.fixture
def refusing_kernel() -> Kernel:
    """A file system without direct I/O that says so when the file is opened."""

    def refuse(path: Path, flags: int, mode: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return os.open(path, flags, mode)

    return Kernel(open=refuse)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Cuts transfers into pieces of two pages, so that small buffers have many; each page has a
    digest of its own.
    """
    piece_bytes = 8192
    monkeypatch.setattr("outsize.store.transfer.PIECE_BYTES", piece_bytes)
    monkeypatch.setattr("outsize.store.transfer.BLOCK_BYTES", piece_bytes // 2)
    monkeypatch.setattr("outsize.store.checksum.BLOCK_BYTES", piece_bytes // 2)
    return piece_bytes
