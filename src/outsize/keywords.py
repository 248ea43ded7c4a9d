"""The keywords of `outsize.train` and `outsize.plan`, written down once.

None means the default of the option, which `train/options.py` documents.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

if TYPE_CHECKING:
    from peft import LoraConfig

Size = int | str
Verb = TypeVar("Verb", bound=Callable[..., Any])


class TrainKeywords(TypedDict, total=False):
    """Options of a run."""

    data: str | None
    tokenizer: str | None
    memory: Size | None
    disk: Size | None
    steps: int | None
    epochs: float | None
    tokens_per_step: int | None
    max_seq_length: int | None
    method: str | None
    lora_r: int | None
    lora_alpha: float | None
    lora_dropout: float | None
    target_modules: str | Sequence[str] | None
    use_rslora: bool | None
    lora_config: "str | LoraConfig | None"
    quantization: str | None
    micro_batch_size: int | None
    dtype: str | None
    learning_rate: float | None
    lr_scheduler_type: str | None
    warmup_steps: int | None
    warmup_ratio: float | None
    optim: str | None
    weight_decay: float | None
    adam_beta1: float | None
    adam_beta2: float | None
    adam_epsilon: float | None
    sgd_momentum: float | None
    max_grad_norm: float | None
    seed: int | None
    output: str | None
    resume: str | None
    evaluation_data: str | None
    evaluation_fraction: float | None
    evaluation_steps: int | None
    train_on: str | None
    text_field: str | None
    packing: bool | None
    packed_attention: str | None
    commit_seconds: float | None
    in_place: bool | None
    threads: int | None
    objective: str | None
    activations: str | None


class PlanKeywords(TrainKeywords, total=False):
    """Options of a run, and how to plan it."""

    machine: str | None
    endurance: Size | None
    frontier: bool | None
    chart: str | None


def takes(keywords: type) -> Callable[[Verb], Verb]:
    """Let the signature of a function show the keywords that it takes, each with None as its
    default.
    """

    def show(verb: Verb) -> Verb:
        own = inspect.signature(verb)
        named = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
            for name, annotation in keywords.__annotations__.items()
        ]
        first, *rest = (p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD)
        verb.__signature__ = own.replace(parameters=[first, *named, *rest])  # type: ignore[attr-defined]
        return verb

    return show
