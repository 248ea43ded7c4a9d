"""What earlier shapes of a step leave in a process is not taken for its libraries."""

from pathlib import Path
from typing import Any

import pytest
import torch

from outsize.machines.profile_file import load_profile, profile_path, save_profile
from outsize.models.layered import Batch
from outsize.models.registry import build
from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.train import session
from outsize.train.options import TrainOptions
from outsize.train.profiled import Profile
from tiny_llama import CONFIG

LENGTH = 64
MIB = 2**20


def sample(num_rows: int) -> list[Batch]:
    ids = torch.arange(num_rows * LENGTH).view(num_rows, LENGTH) % CONFIG["vocab_size"]
    positions = torch.arange(LENGTH).expand(num_rows, LENGTH)
    return [Batch(input_ids=ids, position_ids=positions, labels=ids)]


class RefusedError(Exception):
    pass


def plan(budget_bytes: int) -> session.Session:
    options = TrainOptions(model="m", data="d", max_seq_length=LENGTH, tokens_per_step=4 * LENGTH)
    return session.plan_session(
        build(CONFIG, torch.bfloat16),
        options,
        sample,
        machine=load_profile(profile_path()),
        budget_bytes=budget_bytes,
        disk_bytes=2**33,
        floor_bytes=0,
        chosen_span=None,
    )


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[int, Profile]:
    """What is measured, by rows of the micro-batch; no plan fits, and memory is left behind."""
    machine = load_profile(profile_path())
    monkeypatch.setenv("OUTSIZE_HOME", str(tmp_path))
    save_profile(machine, profile_path())
    profiles: dict[int, Profile] = {}
    left: list[bytes] = []
    measure = session.profile_layers

    def profile_layers(model: Any, layout: Layout, *others: Any, **named: Any) -> Profile:
        profile = measure(model, layout, *others, **named)
        profiles[layout.workload.micro_batch_rows] = profile
        left.append(b"x" * (64 * MIB))
        return profile

    def refuse(*_: Any) -> None:
        raise DoesNotFitError(1)

    monkeypatch.setattr(session, "profile_layers", profile_layers)
    monkeypatch.setattr(session, "choose", refuse)
    monkeypatch.setattr(session, "refusal", lambda *_: RefusedError())
    return profiles


def test_every_shape_of_a_step_has_the_same_baseline(measured: dict[int, Profile]) -> None:
    with pytest.raises(RefusedError):
        plan(2**33)
    first, *later = measured.values()
    assert later
    for number, profile in enumerate(later, 1):
        assert profile.baseline_bytes == first.baseline_bytes
        # What is really there is still counted.
        assert profile.fixed_bytes > first.baseline_bytes + number * 60 * MIB


def test_what_is_known_not_to_fit_is_not_measured_again(
    measured: dict[int, Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "hopeless", lambda *_: None)
    monkeypatch.setattr(session, "surely_measurable", lambda *_: True)
    with pytest.raises(RefusedError):
        plan(2**33)
    assert len(measured) > 1
    measured.clear()
    with pytest.raises(RefusedError):
        plan(2**33)
    assert len(measured) > 1  # it may fit
    measured.clear()
    with pytest.raises(RefusedError):
        plan(64 * MIB)
    assert not measured
