"""Stays of one tier when the tier below has uses of its own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay import lists
from small_models import make_layout
from small_tiers import some_bytes

from outsize.plan.build import DEVICE_HOST, steady_list
from outsize.plan.device_list import device_level, flat_list, host_level
from outsize.plan.level import RESIDENT_ONLY, USUAL_SPLIT, Split
from outsize.plan.prefetch import is_temporary
from outsize.plan.residency import DoesNotFitError, steady_stays
from outsize.plan.schedule import Use

READ, CHANGE, MAKE = Use("r", "read"), Use("r", "modify"), Use("r", "write")
SIZES = {"r": 4}


def stays_of(slots, below):
    return steady_stays(slots, SIZES, 4, below=below)


def test_what_is_read_below_is_written_back_before():
    (stay,) = stays_of([(MAKE,), (CHANGE,), (), ()], [(), (), (READ,), ()])
    assert (stay.first, stay.last, stay.fetch, stay.write_back) == (0, 1, False, True)


def test_what_is_changed_below_comes_back_from_there():
    slots = [(READ,), (), (READ,), ()]
    assert all(stay.permanent for stay in stays_of(slots, ()))
    below = [(), (CHANGE,), (), ()]
    (stay,) = stays_of(slots, below)
    assert (stay.first, stay.last, stay.fetch, stay.write_back) == (2, 4, True, False)


def test_what_is_made_anew_below_is_not_saved():
    (stay,) = stays_of([(CHANGE,), ()], [(), (MAKE,)])
    assert (stay.fetch, stay.write_back) == (True, False)


@settings(deadline=None)
@given(lists(), st.data())
def test_no_stay_covers_a_use_below(case, data):
    slots, sizes, capacity_bytes = case
    names = sorted(sizes)
    below = []
    for slot in slots:
        free = [name for name in names if name not in {use.region for use in slot}]
        uses = st.builds(Use, st.sampled_from(free), st.sampled_from(["read", "modify", "write"]))
        some = st.lists(uses, max_size=2, unique_by=lambda use: use.region)
        below.append(tuple(data.draw(some)) if free else ())
    stays = steady_stays(slots, sizes, capacity_bytes, below=below)
    count = len(slots)
    for stay in stays:
        inside = range(stay.first, stay.last + 1)
        used_below = {use.region for slot in inside for use in below[slot % count]}
        assert stay.region not in used_below
        if stay.written is not None and not stay.write_back and not stay.permanent:
            assert following_mode(slots, below, stay.region, stay.last) == "write"


def following_mode(slots, below, region, slot):
    count = len(slots)
    for later in range(slot + 1, slot + count + 1):
        for use in (*slots[later % count], *below[later % count]):
            if use.region == region:
                return use.mode
    raise AssertionError("the region is never used")


LAYOUT = make_layout(num_blocks=4, hidden=96, vocab=200, seq_length=100, span_elements=4096)


@pytest.mark.parametrize("split", [RESIDENT_ONLY, Split(0.0, True), USUAL_SPLIT])
def test_weights_are_not_fetched_before_the_host_has_made_them(split):
    level = device_level(LAYOUT, "host")
    stays = level.stays(some_bytes(LAYOUT, 0.4), split)
    made = {}
    for slot, action in enumerate(level.work):
        if not level.slots[slot]:
            made[f"weights/{action.layer}"] = slot
    fetched = [stay for stay in stays if stay.region.startswith("weights/")]
    assert {stay.region for stay in fetched} == made.keys()
    assert all(stay.start > made[stay.region] for stay in fetched)
    assert not any(stay.region.startswith("state/") for stay in stays)


def list_of_device(update_on):
    level = device_level(LAYOUT, update_on)
    return steady_list(level.work, level.stays(some_bytes(LAYOUT, 0), USUAL_SPLIT), DEVICE_HOST)


def test_the_host_level_is_the_device_list_cut_behind_each_use():
    device_list = list_of_device("host")
    host = host_level(LAYOUT, device_list, "host")
    assert flat_list(host.work) == device_list
    assert all(host.slots[:-1])
    assert len(host.slots) == len(host.work) < len(device_list)


def test_on_the_host_every_stay_that_ends_may_outlast_its_last_use():
    device_list = list_of_device("device")
    stays = host_level(LAYOUT, device_list, "device").stays(some_bytes(LAYOUT, 0.5), USUAL_SPLIT)
    read_only = [stay for stay in stays if is_temporary(stay) and not stay.write_back]
    assert any(stay.stop > stay.last for stay in read_only)


@pytest.mark.parametrize("tier", ["device", "host"])
def test_a_level_says_which_tier_is_too_small(tier):
    level = device_level(LAYOUT, "device")
    if tier == "host":
        level = host_level(LAYOUT, list_of_device("device"), "device")
    for refused in (level.stays, level.fit):
        with pytest.raises(DoesNotFitError) as caught:
            refused(level.least_bytes - 1, RESIDENT_ONLY)
        assert (caught.value.tier, caught.value.needed_bytes) == (tier, level.least_bytes)
