"""The block of host memory that offsets lie in."""

import mmap

import numpy as np
import pytest

from outsize.store.arena import HostArena

PAGE = 4096


def test_windows_show_the_same_bytes():
    arena = HostArena(4 * PAGE)
    arena.view(PAGE, 2 * PAGE)[:] = b"x" * (2 * PAGE)
    assert bytes(arena.view(2 * PAGE, 2 * PAGE)) == b"x" * PAGE + bytes(PAGE)
    assert bytes(arena.view(0, PAGE)) == bytes(PAGE)
    arena.close()


def test_the_block_starts_at_a_page():
    arena = HostArena(PAGE)
    numbers = np.frombuffer(arena.view(0, PAGE), np.uint8)
    assert numbers.ctypes.data % mmap.PAGESIZE == 0


@pytest.mark.parametrize(("offset", "size"), [(-PAGE, PAGE), (0, 3 * PAGE), (2 * PAGE, PAGE)])
def test_a_window_beyond_the_block_is_a_bug(offset, size):
    arena = HostArena(2 * PAGE)
    with pytest.raises(AssertionError):
        arena.view(offset, size)


def test_a_size_of_half_a_page_is_a_bug():
    with pytest.raises(AssertionError):
        HostArena(PAGE // 2)


def test_an_arena_of_nothing_can_be_made():
    arena = HostArena(0)
    assert len(arena.view(0, 0)) == 0
    arena.close()


def test_pages_that_were_given_back_are_zeros():
    arena = HostArena(2 * PAGE)
    view = arena.view(0, 2 * PAGE)
    view[:] = b"x" * (2 * PAGE)
    arena.give_back()
    assert bytes(view) == bytes(2 * PAGE)
    view[:1] = b"y"
    assert bytes(view[:2]) == b"y\0"


def test_closing_an_arena_that_is_looked_into_gives_its_pages_back():
    arena = HostArena(PAGE)
    numbers = np.frombuffer(arena.view(0, PAGE), np.uint8)
    numbers[:] = 7
    arena.close()
    assert numbers.sum() == 0
    numbers[:] = 7  # the mapping is still there
    assert numbers.sum() == 7 * PAGE


def test_a_closed_arena_has_no_windows():
    arena = HostArena(PAGE)
    arena.close()
    with pytest.raises(ValueError, match="released"):
        arena.view(0, PAGE)
