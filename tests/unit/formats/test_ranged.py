import ctypes
import errno
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from outsize.errors import FormatError, StorageError
from outsize.formats.export import SafetensorsWriter
from outsize.formats.ranged import PAGE_BYTES, RangedFile
from outsize.formats.safetensors import SafetensorsSource


def _cached_pages(path: Path) -> int:
    """Number of pages of a file in the page cache, from mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        mapped = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        pages = np.frombuffer(mapped, np.uint8)
        resident = np.zeros(-(-size // PAGE_BYTES), np.uint8)
        result = libc.mincore(
            ctypes.c_void_p(pages.ctypes.data), ctypes.c_size_t(size),
            ctypes.c_void_p(resident.ctypes.data),
        )  # fmt: skip
        assert result == 0, os.strerror(ctypes.get_errno())
        del pages
        mapped.close()
    return int((resident & 1).sum())


def _cache_can_be_dropped(folder: Path) -> bool:
    probe = folder / "probe"
    with probe.open("wb") as file:
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    count = _cached_pages(probe)
    probe.unlink()
    return count == 0


def test_reading_and_writing_leave_no_page_cache_behind(tmp_path: Path) -> None:
    if not _cache_can_be_dropped(tmp_path):
        pytest.skip("this file system keeps its pages")
    values = np.arange(3_000_001, dtype=np.float32)
    with SafetensorsWriter(tmp_path, [("w", values.shape, "F32")]) as writer:
        writer.write("w", 0, values)
    path = tmp_path / "model.safetensors"
    assert _cached_pages(path) == 0
    source = SafetensorsSource(tmp_path)
    for start in range(0, 2_900_000, 333_333):
        assert source.read("w", start, start + 1000)[0] == start
    assert np.array_equal(source.read("w", 0, 3_000_001), values)
    source.close()
    assert _cached_pages(path) == 0


def test_a_range_beyond_the_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    file = RangedFile(tmp_path / "f")
    assert file.read(1, 2) == b"bc"
    with pytest.raises(
        FormatError, match="f is truncated: bytes 1 to 4 are needed, the file has 3"
    ):
        file.read(1, 3)
    file.close()
    file.close()


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is missing or is not a file"):
        RangedFile(tmp_path)


def test_a_disk_that_fails_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"model.w": torch.ones(4)}, tmp_path / "model.safetensors")
    source = SafetensorsSource(tmp_path)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", fail)
        with pytest.raises(StorageError, match=r"safetensors cannot be read: Input/output error"):
            source.read("model.w", 0, 4)
        patch.setattr(os, "open", fail)
        with pytest.raises(StorageError, match=r"safetensors cannot be opened: Input/output error"):
            RangedFile(tmp_path / "model.safetensors")
    source.close()
