"""The verbs as Python functions with explicit keywords: `outsize.train(...)` and its siblings.

None means the default of the option, which its dataclass documents (`train/options.py`,
`options.py`); sizes are whole bytes or text such as `"1GiB"`. Nothing heavy is imported before a
verb is called.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from outsize import results
from outsize.fields import build
from outsize.keywords import PlanKeywords, Size, TrainKeywords, takes
from outsize.options import (
    ExportOptions,
    GenerateOptions,
    MachinesOptions,
    MergeOptions,
    ProbeOptions,
    VerifyOptions,
)
from outsize.runtime.events import OnEvent, ignore
from outsize.train.adapter import config_text
from outsize.train.options import PlanOptions, TrainOptions

if TYPE_CHECKING:
    from torch.nn import Module

    from outsize.machines.listing import MachinesResult
    from outsize.models.layered import LayeredModel
    from outsize.probe.result import ProbeResult
    from outsize.train.plan_result import PlanResult


@takes(TrainKeywords)
def train(
    model: "str | Module | LayeredModel | None" = None,
    *,
    on_event: OnEvent = ignore,
    **settings: Unpack[TrainKeywords],
) -> results.TrainResult:
    """Train `model` on `data` inside the budget; the options are those of `TrainOptions`.

    Besides what the command line takes, `model` may be a `nn.Sequential` whose first module is a
    `nn.Embedding` and whose last one gives the logits, or what `models.sequential.from_layers`
    makes of a list of layers; `tokenizer` is then needed. A resumed run gets it again.

    Raises:
        OutsizeError: see `errors.py`; nothing is lost and nothing is half written.
    """
    options = build(TrainOptions, _named(_chosen({"model": model, **settings})))
    from outsize import api

    return api.train(options, on_event, _layers(model, options.dtype))


@takes(PlanKeywords)
def plan(
    model: "str | Module | LayeredModel | None" = None,
    *,
    on_event: OnEvent = ignore,
    **settings: Unpack[PlanKeywords],
) -> "PlanResult":
    """Say what `train` with the same options would take and do; load no weights.

    Besides the options of `train` it takes those of `PlanOptions`. A model of the caller's own is
    profiled on its real layers, on this machine.

    Raises:
        OutsizeError: see `errors.py`; nothing is lost and nothing is half written.
    """
    named = _named(_chosen({"model": model, **settings})) | {"dry_run": True}
    from outsize import api

    if model is None or isinstance(model, str):
        return api.plan(build(PlanOptions, named), on_event)
    options = build(TrainOptions, named)
    return api.dry_run(options, on_event, _layers(model, options.dtype))


def verify(
    model: str,
    *,
    memory: Size | None = None,
    steps: int | None = None,
    dtypes: Sequence[str] | None = None,
    layers: int | None = None,
    tokens_per_step: int | None = None,
    max_seq_length: int | None = None,
    seed: int | None = None,
    work: str | None = None,
    quick: bool | None = None,
    threads: int | None = None,
    packed_attention: str | None = None,
    on_event: OnEvent = ignore,
) -> results.VerifyResult:
    """Compare streamed training with plain PyTorch; the options are those of `VerifyOptions`.

    Raises:
        OutsizeError: see `errors.py`; nothing is lost and nothing is half written.
    """
    options = build(VerifyOptions, _chosen(locals()))
    from outsize import api

    return api.verify(options, on_event)


def export(
    run: str,
    *,
    output: str | None = None,
    format: str | None = None,
    dtype: str | None = None,
    max_shard_size: Size | None = None,
    memory: Size | None = None,
    on_event: OnEvent = ignore,
) -> results.ExportResult:
    """Write the weights of a run folder as a model; the options are those of `ExportOptions`.

    Raises:
        OutsizeError: see `errors.py`; nothing is lost and nothing is half written.
    """
    options = build(ExportOptions, _chosen(locals()))
    from outsize import api

    return api.export(options, on_event)


def merge(
    adapter: str,
    *,
    model: str | None = None,
    output: str | None = None,
    dtype: str | None = None,
    max_shard_size: Size | None = None,
    memory: Size | None = None,
    on_event: OnEvent = ignore,
) -> results.MergeResult:
    """Write a model with adapters merged into it; the options are those of `MergeOptions`.

    Raises:
        OutsizeError: see `errors.py`; nothing is lost and nothing is half written.
    """
    options = build(MergeOptions, _chosen(locals()))
    from outsize import api

    return api.merge(options, on_event)


def generate(
    model: str,
    prompt: str,
    *,
    memory: Size | None = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    seed: int | None = None,
    chat: bool | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    on_event: OnEvent = ignore,
) -> results.GenerateResult:
    """Continue or answer `prompt`; the options are those of `GenerateOptions`.

    Raises:
        OutsizeError: see `errors.py`; nothing is lost and nothing is half written.
    """
    options = build(GenerateOptions, _chosen(locals()))
    from outsize import api

    return api.generate(options, on_event)


def probe(
    *,
    folder: str | None = None,
    output: str | None = None,
    threads: int | None = None,
    on_event: OnEvent = ignore,
) -> "ProbeResult":
    """Measure this machine and keep its profile; the options are those of `ProbeOptions`.

    Raises:
        OutsizeError: see `errors.py`; nothing is left on the disk.
    """
    options = build(ProbeOptions, _chosen(locals()))
    from outsize import api

    return api.probe(options, on_event)


def machines(name: str | None = None) -> "MachinesResult":
    """List the machines that can be planned for, or describe one; see `MachinesOptions`.

    Raises:
        OutsizeError: there is no such machine.
    """
    options = build(MachinesOptions, _chosen(locals()))
    from outsize import api

    return api.machines(options)


def _chosen(settings: Mapping[str, object]) -> dict[str, object]:
    """Keep what the caller gave; called with the locals of a verb."""
    return {k: v for k, v in settings.items() if v is not None and k != "on_event"}


def _named(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings with a model of the caller's own replaced by the name of its class, and
    adapters by what their configuration says.
    """
    named, model = dict(settings), settings.get("model")
    if model is not None and not isinstance(model, str):
        named["model"] = type(model).__name__
    targets, config = settings.get("target_modules"), settings.get("lora_config")
    if targets is not None and not isinstance(targets, str):
        named["target_modules"] = ",".join(map(str, targets))  # type: ignore[call-overload]
    if config is not None and not isinstance(config, str):
        named["lora_config"] = config_text(config)
    return named


def _layers(model: object, dtype: str) -> "LayeredModel | None":
    """Return a model of the caller's own as a list of layers; None when it is a name."""
    if model is None or isinstance(model, str):
        return None
    from outsize.models.own import as_layers

    return as_layers(model, dtype)
