"""Learning rates against Transformers' own schedules, bit for bit."""

import pytest
import torch
from transformers import TrainingArguments, get_scheduler

from outsize.train.learning_rate import learning_rate, num_warmup_steps
from outsize.train.options import TrainOptions

KINDS = ["linear", "cosine", "constant", "constant_with_warmup"]


def make_options(**changes: object) -> TrainOptions:
    return TrainOptions(model="any", data="any.txt", **changes)


def rates_of_transformers(kind: str, peak: float, warmup: int, num_steps: int) -> list[float]:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=peak)
    schedule = get_scheduler(kind, optimizer, warmup, num_steps)
    rates = []
    for _ in range(num_steps):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("warmup", "num_steps"), [(0, 1), (0, 37), (5, 37), (37, 37), (50, 37)])
def test_rates_are_those_of_transformers(kind, warmup, num_steps):
    warms_up = kind != "constant"
    options = make_options(
        lr_scheduler_type=kind,
        learning_rate=3.7e-4,
        warmup_steps=warmup if warms_up else None,
    )
    expected = rates_of_transformers(kind, 3.7e-4, warmup if warms_up else 0, num_steps)
    assert [learning_rate(options, step, num_steps) for step in range(num_steps)] == expected


@pytest.mark.parametrize("ratio", [0.0, 0.03, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("num_steps", [1, 7, 100, 1001])
def test_a_ratio_warms_up_as_many_steps_as_in_transformers(ratio, num_steps, tmp_path):
    arguments = TrainingArguments(
        output_dir=str(tmp_path), warmup_steps=ratio, use_cpu=True, report_to="none"
    )
    options = make_options(warmup_ratio=ratio)
    assert num_warmup_steps(options, num_steps) == arguments.get_warmup_steps(num_steps)


def test_steps_are_taken_as_they_are():
    assert num_warmup_steps(make_options(warmup_steps=12), 100) == 12
    assert num_warmup_steps(make_options(warmup_steps=0), 100) == 0


def test_some_rates_by_hand():
    options = make_options(learning_rate=1.0, warmup_steps=2)
    assert [learning_rate(options, step, 6) for step in range(6)] == [0, 0.5, 1, 0.75, 0.5, 0.25]
