"""One page-aligned block of host memory that every region is fetched into.

It is mapped once, at the size that the plan names, and never grows. Regions are windows into it;
parameters of a layer are windows into a region. `madvise` asks for huge pages: a first touch of
small ones is slow.
"""

import mmap

from outsize.spec.tensor import PAGE_BYTES


class HostArena:
    """A private anonymous mapping.

    Cost: `size_bytes` of host memory, resident as far as it was touched, until `close`.
    """

    def __init__(self, size_bytes: int) -> None:
        assert size_bytes % PAGE_BYTES == 0
        self.size_bytes = size_bytes
        self._map = mmap.mmap(-1, max(size_bytes, PAGE_BYTES), flags=mmap.MAP_PRIVATE)
        self._map.madvise(mmap.MADV_HUGEPAGE)
        self._view = memoryview(self._map)

    def view(self, offset_bytes: int, size_bytes: int) -> memoryview:
        """Return a writable window; it stays valid until `close`."""
        assert offset_bytes >= 0
        assert offset_bytes + size_bytes <= self.size_bytes
        return self._view[offset_bytes : offset_bytes + size_bytes]

    def give_back(self) -> None:
        """Return all pages to the kernel; the next touch of each reads zeros."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Unmap the block if nothing looks into it any more; otherwise give its pages back."""
        self.give_back()
        self._view.release()
        try:
            self._map.close()
        except BufferError:
            # A tensor still looks into the block; the mapping goes when that tensor does.
            return
