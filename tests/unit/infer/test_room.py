"""Which layers stay: never more than the room, and no layer that would still fit is left out."""

from hypothesis import given
from hypothesis import strategies as st

from outsize.infer.room import arena_bytes, choose_resident

SIZES = st.lists(st.integers(0, 100), min_size=1, max_size=12)


@given(sizes=SIZES, extra=st.integers(0, 400))
def test_the_choice_fits_and_is_maximal(sizes: list[int], extra: int) -> None:
    room = max(sizes) + extra
    resident = choose_resident(sizes, room)
    assert arena_bytes(sizes, resident) <= room
    for index in set(range(len(sizes))) - set(resident):
        assert arena_bytes(sizes, [*resident, index]) > room


@given(sizes=SIZES)
def test_everything_stays_when_there_is_room(sizes: list[int]) -> None:
    assert choose_resident(sizes, sum(sizes)) == tuple(range(len(sizes)))


def test_the_largest_stays_first_so_that_the_slot_is_small() -> None:
    sizes = [1, 10, 10, 10, 50]
    assert choose_resident(sizes, 59) == (0,)
    assert choose_resident(sizes, 60) == (4,)
    assert choose_resident(sizes, 61) == (0, 4)
    assert arena_bytes(sizes, (0, 4)) == 61
