"""Two places for each region, and the record that says which one counts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.errors import StorageError
from outsize.runtime.slots import Slots, Version, extent_name

VERSIONS = st.builds(Version, st.integers(0, 1), st.integers(0, 2**64 - 1))
TABLES = st.dictionaries(st.from_regex(r"state/\d{1,2}/\d{1,2}", fullmatch=True), VERSIONS)


@settings(deadline=None)
@given(TABLES)
def test_a_record_is_read_back(versions):
    record = Slots(versions).to_record()
    again = Slots.from_record(record, reversed(list(versions)))
    assert {region: again.newest(region) for region in versions} == versions
    assert again.to_record() == record


def test_a_record_is_text():
    slots = Slots({"state/1/0": Version(1, 255), "state/0/0": Version(0, 2**64 - 1)})
    assert slots.to_record() == {"slots": "01", "checksums": "f" * 16 + "00000000000000ff"}


def test_the_committed_place_is_never_the_one_to_write_to():
    slots = Slots()
    written = []
    for checksum in range(4):
        for _ in range(2):  # an uncommitted place may be written again
            written.append(slots.write_slot("state/0/0"))
            slots.written("state/0/0", checksum)
            assert slots.newest("state/0/0") == Version(written[-1], checksum)
        slots.commit()
    assert written == [0, 0, 1, 1, 0, 0, 1, 1]


def test_what_was_not_committed_is_in_the_record_but_leaves_the_committed_place():
    slots = Slots({"state/0/0": Version(1, 7)})
    slots.written("state/0/0", 8)
    assert slots.to_record()["slots"] == "0"
    assert slots.write_slot("state/0/0") == 0


def test_an_extent_is_named_after_region_and_slot():
    assert extent_name("state/3/1", 1) == "state/3/1@1"


GOOD = {"slots": "01", "checksums": "0" * 32}
REGIONS = ("state/0/0", "state/1/0")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, r"has no table of regions; it was not written by Outsize\."),
        ({**GOOD, "slots": 1}, "has no table of regions"),
        ({**GOOD, "checksums": None}, "has no table of regions"),
        (
            {"slots": "010", "checksums": "0" * 48},
            r"describes 3 regions and the model has 2: the run folder mixes two runs\.",
        ),
        ({**GOOD, "checksums": "0" * 31}, "the run folder mixes two runs"),
        ({**GOOD, "slots": "02"}, r"has a table of regions that cannot be read: it is damaged\."),
        ({**GOOD, "checksums": "0" * 31 + "x"}, "that cannot be read"),
    ],
)
def test_a_record_of_something_else_is_refused(record, message):
    with pytest.raises(StorageError, match=message):
        Slots.from_record(record, REGIONS)
