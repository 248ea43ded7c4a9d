"""What earlier shapes of a step leave in a process is not taken for its libraries."""

from typing import Any

import pytest
import torch

from outsize.machines.profile_file import load_profile, profile_path
from outsize.models.layered import Batch
from outsize.models.registry import build
from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.train import session
from outsize.train.options import TrainOptions
from outsize.train.profiled import Profile

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 256,
    "max_position_embeddings": 128,
}
LENGTH = 64
MIB = 2**20


def sample(num_rows: int) -> list[Batch]:
    ids = torch.arange(num_rows * LENGTH).view(num_rows, LENGTH) % CONFIG["vocab_size"]
    positions = torch.arange(LENGTH).expand(num_rows, LENGTH)
    return [Batch(input_ids=ids, position_ids=positions, labels=ids)]


def test_every_shape_of_a_step_has_the_same_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
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

    class RefusedError(Exception):
        pass

    monkeypatch.setattr(session, "profile_layers", profile_layers)
    monkeypatch.setattr(session, "choose", refuse)
    monkeypatch.setattr(session, "refusal", lambda *_: RefusedError())
    options = TrainOptions(model="m", data="d", max_seq_length=LENGTH, tokens_per_step=4 * LENGTH)
    with pytest.raises(RefusedError):
        session.plan_session(
            build(CONFIG, torch.bfloat16),
            options,
            sample,
            machine=load_profile(profile_path()),
            budget_bytes=2**33,
            disk_bytes=2**33,
            floor_bytes=0,
            chosen_span=None,
        )
    first, *later = profiles.values()
    assert later
    for number, profile in enumerate(later, 1):
        assert profile.baseline_bytes == first.baseline_bytes
        # What is really there is still counted.
        assert profile.fixed_bytes > first.baseline_bytes + number * 60 * MIB
