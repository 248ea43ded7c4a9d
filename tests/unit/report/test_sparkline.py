from hypothesis import given
from hypothesis import strategies as st

from outsize.report.sparkline import sparkline


def test_it_goes_the_way_of_the_numbers() -> None:
    assert sparkline([3.0, 2.0, 1.0], 10) == "█▅▁"
    assert sparkline([1.0, 1.0], 10) == "▁▁"
    assert sparkline([], 10) == ""


def test_what_is_no_number_is_marked() -> None:
    assert sparkline([1.0, float("nan"), 2.0], 10) == "▁?█"
    assert sparkline([float("inf")], 10) == "?"


@given(st.lists(st.floats(-1e6, 1e6), max_size=200), st.integers(1, 50))
def test_it_never_exceeds_its_width(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) == min(width, len(values))
