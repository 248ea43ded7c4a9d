"""The C library's heap keeps its pages, and gives them back when it is told to.

Each question is asked in a process of its own, because the settings hold for a whole process.
"""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from outsize.store import heap

PROGRAM = """
import ctypes, json, resource, sys
from outsize.store.budget import resident_bytes
from outsize.store.heap import keep_heap_pages, trim_heap

SIZE = 64 * 2**20
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
found = {"kept": keep_heap_pages() if sys.argv[1] == "keep" else None}

def use():
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = library.malloc(SIZE)
    ctypes.memset(block, 1, SIZE)
    library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults

use()
found["before"] = resident_bytes()
found["faults"] = sum(use() for _ in range(8))
found["after"] = resident_bytes()
trim_heap()
found["trimmed"] = resident_bytes()
print(json.dumps(found))
"""
SIZE = 64 * 2**20
needs_glibc = pytest.mark.skipif(heap._glibc() is None, reason="glibc is not the C library")


def measured(mode: str) -> dict[str, int]:
    command = [sys.executable, "-c", PROGRAM, mode]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@needs_glibc
def test_a_large_block_reuses_the_pages_of_the_one_before():
    found = measured("keep")
    assert found["kept"] is True
    assert found["faults"] < 100  # fresh pages would be 16384 faults for each of eight blocks
    assert abs(found["after"] - found["before"]) < 2**20


@needs_glibc
def test_trimming_gives_free_pages_back():
    found = measured("keep")
    assert found["after"] - found["trimmed"] > SIZE * 9 // 10


@needs_glibc
def test_without_the_settings_a_free_block_goes_back_at_once():
    found = measured("default")
    assert found["after"] < SIZE


MAPPINGS = """\
1000-3000 r-xp 00000000 fe:00 1 /lib/code.so
Rss:     8 kB
Anonymous:     0 kB
Swap:     0 kB
VmFlags: rd ex
3000-4000 r--p 00002000 fe:00 1 /lib/code.so
Anonymous:     4 kB
Swap:     0 kB
4000-5000 r--p 00003000 fe:00 1 /lib/code.so
Anonymous:     0 kB
Swap:     4 kB
5000-6000 rw-p 00004000 fe:00 1 /lib/code.so
Anonymous:     0 kB
Swap:     0 kB
6000-7000 r--s 00000000 fe:00 2 /data/rows
Anonymous:     0 kB
7000-8000 r--p 00000000 00:00 0 [vvar]
Anonymous:     0 kB
8000-a000 r--p 00000000 00:00 0
Anonymous:     0 kB
b000-c000 r--p 00000000 fe:00 1 /lib/constants.so
Anonymous:     0 kB
Swap:     0 kB
"""


def test_only_files_of_which_no_page_was_changed_are_unmapped(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self/smaps").write_text(MAPPINGS)
    found = list(heap._unchanged_file_mappings(tmp_path))
    assert found == [(0x1000, 0x2000), (0xB000, 0x1000)]
    assert list(heap._unchanged_file_mappings(tmp_path / "nowhere")) == []


DROP = """
import json, math, ssl, sqlite3
from outsize.store.budget import resident_bytes
from outsize.store.heap import drop_file_pages
before = resident_bytes()
drop_file_pages()
after = resident_bytes()
works = ssl.create_default_context() is not None and sqlite3.connect(":memory:") is not None
print(json.dumps([before, after, works]))
"""


@needs_glibc
def test_library_pages_are_dropped_and_come_back():
    done = subprocess.run([sys.executable, "-c", DROP], capture_output=True, check=True, text=True)
    before, after, works = json.loads(done.stdout)
    assert works
    assert after < before - 2**21


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(heap.sys, "platform", "darwin")
    assert heap.keep_heap_pages() is False
    assert heap.trim_heap() is None


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert heap.keep_heap_pages() is False
    assert heap.trim_heap() is None


def test_a_setting_that_is_refused_is_told(monkeypatch):
    library = SimpleNamespace(
        gnu_get_libc_version=None, mallopt=lambda option, value: int(option != -4)
    )
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: library)
    assert heap.keep_heap_pages() is False
