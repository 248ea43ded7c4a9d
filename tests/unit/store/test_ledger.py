"""The account of a tier never over-commits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.errors import BudgetError
from outsize.store.ledger import Ledger


def test_what_is_acquired_and_released_is_counted():
    ledger = Ledger("host", 100)
    ledger.acquire("arena", 60)
    ledger.acquire("arena", 10)
    ledger.acquire("staging", 30)
    assert (ledger.used_bytes, ledger.free_bytes) == (100, 0)
    ledger.release("arena", 70)
    assert (ledger.used_bytes, ledger.free_bytes) == (30, 70)


def test_too_much_is_refused_with_what_holds_the_room():
    ledger = Ledger("host", 3 * 2**20)
    ledger.acquire("arena", 2 * 2**20)
    ledger.acquire("staging", 2**19)
    with pytest.raises(BudgetError) as caught:
        ledger.acquire("masks", 2**20)
    assert str(caught.value) == (
        "Acquiring masks needs 3.50 MiB on host; the budget is 3.00 MiB.\n"
        "  arena 2.00 MiB, staging 512 KiB"
    )
    assert caught.value.needed_bytes == 7 * 2**19
    assert ledger.used_bytes == 5 * 2**19


def test_contributors_are_largest_first_and_hold_something():
    ledger = Ledger("disk", 100)
    for role, size in (("small", 1), ("large", 50), ("gone", 7)):
        ledger.acquire(role, size)
    ledger.release("gone", 7)
    assert [(c.role, c.size_bytes) for c in ledger.contributors()] == [("large", 50), ("small", 1)]


@pytest.mark.parametrize(("role", "size"), [("arena", 11), ("arena", -1), ("other", 1)])
def test_giving_back_what_was_not_taken_is_a_bug(role, size):
    ledger = Ledger("host", 100)
    ledger.acquire("arena", 10)
    with pytest.raises(AssertionError, match="holds"):
        ledger.release(role, size)
    assert ledger.used_bytes == 10


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.booleans())))
def test_the_budget_holds_after_any_sequence(requests):
    ledger, held = Ledger("host", 100), dict.fromkeys("abc", 0)
    for role, size, gives_back in requests:
        if gives_back:
            size = min(size, held[role])
            ledger.release(role, size)
            held[role] -= size
        elif sum(held.values()) + size <= 100:
            ledger.acquire(role, size)
            held[role] += size
        else:
            with pytest.raises(BudgetError):
                ledger.acquire(role, size)
        assert ledger.used_bytes == sum(held.values()) <= 100
