"""What each verb returns, in Python and as the last line on stdout, in the same words.

`to_json()` gives the object of the command line. Bytes are whole numbers, seconds and rates are
floats; a name begins with `predicted_` when the plan said it and with `measured_` when the kernel
or a clock did.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from outsize.values import MethodType

LimitedBy = Literal["compute", "read", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TierBytes:
    """Bytes on each tier."""

    host: int
    disk: int

    def to_json(self) -> dict[str, int]:
        """Return the two numbers by tier."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a training run did.

    Attributes:
        model: what was trained, as the user named it.
        method: which parameters are trained.
        steps: train steps that are done, those before a resume included.
        tokens: tokens that this process trained on, padding included.
        loss_first: mean loss per token of the first step of this process.
        loss_last: mean loss per token of the last step.
        evaluation_loss: mean loss per token on the evaluation data at the end; None without such
            data.
        tokens_per_s: tokens of the steps of this process over their wall time.
        budget_bytes: what was allowed.
        predicted_peak_bytes: what the plan said would be the most.
        measured_peak_bytes: what the kernel says was the most.
        predicted_step_s: wall time of a step by the plan.
        measured_step_s: median wall time of a step.
        predicted_exposed_io_s: transfer time of a step that compute does not hide, by the plan.
        exposed_io_s: the same, measured, mean of the steps.
        predicted_bytes_read: bytes that this process reads from the state on disk, steps and
            evaluations together, by the plan.
        predicted_bytes_written: bytes that it writes to it, the first state of a new run included,
            by the plan.
        bytes_read: bytes that it did read.
        bytes_written: bytes that it did write.
        limited_by: the resource that decides the time of a step.
        output: the run folder.
        resumed_from: the step that this process went on after; None for a new run.
        interrupted: whether Ctrl-C ended the run before its last step.
        seconds: wall time of everything, import and planning included.
    """

    model: str
    method: MethodType = "full"
    steps: int
    tokens: int
    loss_first: float
    loss_last: float
    evaluation_loss: float | None
    tokens_per_s: float
    budget_bytes: TierBytes
    predicted_peak_bytes: TierBytes
    measured_peak_bytes: TierBytes
    predicted_step_s: float
    measured_step_s: float
    predicted_exposed_io_s: float
    exposed_io_s: float
    predicted_bytes_read: int
    predicted_bytes_written: int
    bytes_read: int
    bytes_written: int
    limited_by: LimitedBy
    output: str
    resumed_from: int | None
    interrupted: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of `outsize train`."""
        return {"command": "train", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyCase:
    """One comparison with plain PyTorch; a difference is the largest absolute one of all elements.

    Attributes:
        dtype: compute dtype.
        clip: whether the gradient was clipped by its global norm.
        accumulation: micro-batches of a step.
        max_difference_weights: of the float32 masters after the last step.
        max_difference_exp_avg: of the first moments.
        max_difference_exp_avg_sq: of the second moments.
        max_difference_losses: of the losses of all steps.
        streamed_peak_bytes: host peak of the streamed side.
        plain_peak_bytes: host peak of plain PyTorch.
    """

    dtype: str
    clip: bool
    accumulation: int
    max_difference_weights: float
    max_difference_exp_avg: float
    max_difference_exp_avg_sq: float
    max_difference_losses: float
    streamed_peak_bytes: int
    plain_peak_bytes: int

    @property
    def equal(self) -> bool:
        """Whether every difference is exactly 0; false when one is not a number."""
        return (
            self.max_difference_weights == 0
            and self.max_difference_exp_avg == 0
            and self.max_difference_exp_avg_sq == 0
            and self.max_difference_losses == 0
        )

    def to_json(self) -> dict[str, Any]:
        """Return the case with its verdict."""
        return {**asdict(self), "equal": self.equal}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """Whether streamed training equals plain PyTorch on this machine.

    Attributes:
        model: what was compared, as the user named it.
        steps: train steps of every case.
        num_layers: decoder layers that took part; `num_layers_model` is how many the model has.
        num_elements: parameters that were compared.
        budget_bytes: what the streamed side was allowed.
        cases: one for each combination.
        seconds: wall time of everything.
    """

    model: str
    steps: int
    num_layers: int
    num_layers_model: int
    num_elements: int
    budget_bytes: TierBytes
    cases: tuple[VerifyCase, ...]
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether every case is equal; there is at least one."""
        return bool(self.cases) and all(case.equal for case in self.cases)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of `outsize verify`."""
        return {
            "command": "verify",
            **asdict(self),
            "equal": self.equal,
            "cases": [case.to_json() for case in self.cases],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What was written.

    Attributes:
        run: the run folder that was read.
        step: the committed step that was exported.
        output: the folder that was written.
        format: its format.
        dtype: dtype of the weights.
        num_elements: parameters written; a tied matrix counts once.
        num_files: weight files.
        bytes_written: size of the folder's files.
        budget_bytes: what was allowed.
        measured_peak_bytes: what the kernel says was the most.
        seconds: wall time of everything.
    """

    run: str
    step: int
    output: str
    format: str
    dtype: str
    num_elements: int
    num_files: int
    bytes_written: int
    budget_bytes: TierBytes
    measured_peak_bytes: TierBytes
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of `outsize export`."""
        return {"command": "export", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeResult:
    """What was written.

    Attributes:
        adapter: the adapters that were merged.
        model: the model that they were merged into.
        output: the folder that was written.
        dtype: dtype of the weights.
        num_elements: parameters written; a tied matrix counts once.
        num_merged: matrices that had an adapter.
        num_files: weight files.
        bytes_written: size of the folder's files.
        budget_bytes: what was allowed.
        measured_peak_bytes: what the kernel says was the most.
        seconds: wall time of everything.
    """

    adapter: str
    model: str
    output: str
    dtype: str
    num_elements: int
    num_merged: int
    num_files: int
    bytes_written: int
    budget_bytes: TierBytes
    measured_peak_bytes: TierBytes
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of `outsize merge`."""
        return {"command": "merge", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateResult:
    """What the model wrote.

    Attributes:
        model: what was asked, as the user named it.
        prompt: the user's text.
        text: the answer, without the prompt.
        chat: whether the prompt went through the chat template.
        num_prompt_tokens: tokens of the prompt, template included.
        num_new_tokens: tokens of the answer.
        stopped_by: what ended it.
        tokens_per_s: tokens of the answer over the time it took.
        budget_bytes: what was allowed.
        measured_peak_bytes: what the kernel says was the most.
        seconds: wall time of everything.
    """

    model: str
    prompt: str
    text: str
    chat: bool
    num_prompt_tokens: int
    num_new_tokens: int
    stopped_by: Literal["end", "max_new_tokens"]
    tokens_per_s: float
    budget_bytes: TierBytes
    measured_peak_bytes: TierBytes
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of `outsize generate`."""
        return {"command": "generate", **asdict(self)}
