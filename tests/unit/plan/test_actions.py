"""One line of text an action, and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.plan.actions import (
    Acquire,
    Action,
    Commit,
    Compute,
    Fetch,
    Release,
    Update,
    WriteBack,
    format_action,
    format_actions,
    parse_actions,
)

COUNTS = st.integers(0, 2**50)
REGIONS = st.sampled_from(["weights/0", "state/11/2", "projection_gradient"])
TIERS = st.sampled_from(["device", "host", "disk"])
PHASES = st.sampled_from(["forward", "backward", "gradient_norm", "evaluate"])
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Acquire, REGIONS, TIERS, COUNTS),
    st.builds(Fetch, REGIONS, TIERS, TIERS, COUNTS),
    st.builds(Compute, COUNTS, PHASES, COUNTS),
    st.builds(Update, COUNTS, COUNTS, st.sampled_from(["optimizer", "derive"])),
    st.builds(WriteBack, REGIONS, TIERS, TIERS),
    st.builds(Release, REGIONS, TIERS),
    st.just(Commit()),
)


@settings(deadline=None)
@given(st.lists(ACTIONS).map(tuple))
def test_text_and_actions_are_the_same(actions):
    assert parse_actions(format_actions(actions)) == actions


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Acquire("weights/0", "host", 4096), "acquire weights/0 host 4096"),
        (Fetch("state/1/2", "disk", "host", 0), "fetch state/1/2 disk host 0"),
        (Compute(3, "gradient_norm", 0), "compute 3 gradient_norm 0"),
        (Update(3, 1, "derive"), "update 3 1 derive"),
        (WriteBack("state/1/2", "host", "disk"), "write_back state/1/2 host disk"),
        (Release("weights/0", "host"), "release weights/0 host"),
        (Commit(), "commit"),
    ],
)
def test_the_words_of_each_action(action, text):
    assert format_action(action) == text


@pytest.mark.parametrize(
    "line",
    [
        "",
        "sleep 3",
        "commit now",
        "acquire weights/0 host",
        "acquire weights/0 cloud 0",
        "acquire weights/0 host many",
        "fetch weights/0 disk host 1.5",
        "compute 1 sideways 0",
        "compute one forward 0",
        "update 1 0 sgd",
        "write_back weights/0 host tape",
        "release weights/0 attic",
    ],
)
def test_an_unreadable_line_is_named(line):
    text = f"commit\ncommit\n{line}\ncommit\n"
    with pytest.raises(ValueError, match="line 3 is no action") as caught:
        parse_actions(text)
    assert repr(line) in str(caught.value)
