"""Phases tell their start, and their end when it went well."""

import pytest

from outsize.runtime import events
from outsize.runtime.events import PhaseFinished, PhaseStarted, ignore, phase


def test_a_phase_tells_start_and_end(monkeypatch):
    seconds = iter([10.0, 12.5])
    monkeypatch.setattr(events.time, "monotonic", lambda: next(seconds))
    seen = []
    with phase("import", seen.append, 7, "parameters"):
        seen.append("inside")
    assert seen == [
        PhaseStarted(phase="import", total=7, unit="parameters"),
        "inside",
        PhaseFinished(phase="import", seconds=2.5),
    ]


def test_a_phase_that_fails_does_not_end():
    seen = []
    with pytest.raises(ZeroDivisionError), phase("profile", seen.append):
        raise ZeroDivisionError
    assert seen == [PhaseStarted(phase="profile", total=None, unit="")]


def test_nobody_has_to_watch():
    with phase("plan", ignore):
        assert ignore(PhaseFinished(phase="plan", seconds=0.0)) is None
