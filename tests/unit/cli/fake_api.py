"""A stand-in for `outsize.api`, which keeps the options and answers what it is told."""

import types
from collections.abc import Callable
from typing import Any

from outsize.results import TierBytes, TrainResult, VerifyCase, VerifyResult
from outsize.runtime.events import OnEvent, StepFinished

GIB = 2**30


def train_result(**changes: Any) -> TrainResult:
    values: dict[str, Any] = {
        "model": "m",
        "steps": 20,
        "tokens": 81920,
        "loss_first": 3.5,
        "loss_last": 3.0,
        "evaluation_loss": None,
        "tokens_per_s": 512.0,
        "budget_bytes": TierBytes(host=GIB, disk=8 * GIB),
        "predicted_peak_bytes": TierBytes(host=GIB - 2**20, disk=2 * GIB),
        "measured_peak_bytes": TierBytes(host=GIB - 2**25, disk=2 * GIB),
        "predicted_step_s": 8.0,
        "measured_step_s": 8.5,
        "predicted_exposed_io_s": 0.25,
        "exposed_io_s": 0.5,
        "predicted_bytes_read": 4 * GIB,
        "predicted_bytes_written": 3 * GIB,
        "bytes_read": 4 * GIB,
        "bytes_written": 3 * GIB,
        "limited_by": "compute",
        "output": "runs/[m]",
        "resumed_from": None,
        "interrupted": False,
        "seconds": 200.0,
    }
    return TrainResult(**values | changes)


def verify_result(difference: float) -> VerifyResult:
    case = VerifyCase(
        dtype="bfloat16",
        clip=True,
        accumulation=4,
        max_difference_weights=difference,
        max_difference_exp_avg=0.0,
        max_difference_exp_avg_sq=0.0,
        max_difference_losses=0.0,
        streamed_peak_bytes=2**30,
        plain_peak_bytes=5 * 2**30,
    )
    return VerifyResult(
        model="m",
        steps=5,
        num_layers=2,
        num_layers_model=30,
        num_elements=1000,
        budget_bytes=TierBytes(host=GIB, disk=GIB),
        cases=(case,),
        seconds=1.0,
    )


def step(number: int = 1) -> StepFinished:
    return StepFinished(
        step=number,
        num_steps=20,
        loss=3.5 - number / 40,
        gradient_norm=1.0,
        learning_rate=5e-5,
        num_tokens=4096,
        step_s=8.0,
        predicted_step_s=8.0,
        remaining_s=8.0 * (20 - number),
        host_bytes=GIB - 2**25,
        budget_bytes=GIB,
        bytes_read=2 * 10**9,
        bytes_written=10**9,
    )


class FakeApi(types.ModuleType):
    def __init__(self) -> None:
        super().__init__("outsize.api")
        self.options: Any = None
        self.answer: Callable[[], Any] = train_result

    def train(self, options: object, on_event: OnEvent) -> Any:
        self.options = options
        on_event(step())
        return self.answer()

    def plan(self, options: object, on_event: OnEvent) -> Any:
        self.options = options
        return self.answer()

    verify = export = generate = dry_run = plan
