import pytest
from hypothesis import given
from hypothesis import strategies as st

from outsize.quantities import align_up, format_bytes, format_rate, format_seconds, parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1GiB", 2**30),
        ("1.5GB", 1_500_000_000),
        ("768MiB", 768 * 2**20),
        ("2g", 2 * 10**9),
        ("1e9", 10**9),
        (" 64 KiB ", 65536),
        ("7", 7),
        ("3tib", 3 * 2**40),
        ("1kB", 1000),
        ("12B", 12),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1GiB", "1XB", "1iB", "1 GiB per rank", "nan", "1,5GB"]
)
def test_what_is_no_size_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size; a size is a number with a unit"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["0", "0.5", "1e400", "9999999PB"])
def test_sizes_that_no_machine_has_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a usable size"):
        parse_bytes(text)


@given(st.integers(min_value=1, max_value=2**50))
def test_a_plain_byte_count_reads_back(count: int) -> None:
    assert parse_bytes(str(count)) == count


@given(st.integers(min_value=1, max_value=2**50))
def test_a_written_size_reads_back_to_three_digits(count: int) -> None:
    assert abs(parse_bytes(format_bytes(count)) - count) <= 0.006 * count


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1024, "1.00 KiB"),
        (2**30, "1.00 GiB"),
        (1_300_000_000, "1.21 GiB"),
    ],
)
def test_bytes_are_written_with_three_digits(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.42 s"),
        (12.34, "12.3 s"),
        (99.96, "1 min 40 s"),
        (245, "4 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (273600, "3 d 04 h"),
    ],
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_rates_are_written_in_decimal_units() -> None:
    assert format_rate(1_350_000_000) == "1.35 GB/s"
    assert format_rate(0) == "0.00 B/s"


@given(st.integers(0, 2**40), st.integers(1, 2**20))
def test_align_up_is_the_next_multiple(count: int, alignment: int) -> None:
    aligned = align_up(count, alignment)
    assert aligned % alignment == 0
    assert count <= aligned < count + alignment
