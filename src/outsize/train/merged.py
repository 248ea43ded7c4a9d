"""Opens a model together with adapters of it, wherever both are named."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from outsize.errors import ModelError, UsageError
from outsize.formats.hub import has_weights, open_weights, resolve
from outsize.formats.model_spec import KnownModel, know_model
from outsize.runtime.events import OnEvent
from outsize.train.merge_source import Adapters, open_adapters
from outsize.train.merger import MergedWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A model with adapters.

    Attributes:
        model: what the model was called.
        known: the model as it is.
        adapters: the adapters.
        weights: both together.
        close: closes the files, and lets other processes at the run.
    """

    model: str
    known: KnownModel
    adapters: Adapters
    weights: MergedWeights
    close: Callable[[], None]


def open_merged(adapter: str, model: str | None, on_event: OnEvent) -> Merged:
    """Open adapters, and the model that they are for.

    Args:
        adapter: a run folder, or one that PEFT has written.
        model: the model; None takes the one that the adapters name.
        on_event: told what is worth knowing.

    Raises:
        UsageError: there are no adapters, or they name no model.
        ModelError: the model has no weights, or the adapters are those of another one.
        OutsizeError: files are damaged, or the run is in use.
    """
    with ExitStack() as opened:
        adapters = open_adapters(adapter, on_event)
        opened.callback(adapters.close)
        name = model or adapters.base
        if name is None:
            raise UsageError("The adapters do not say what model they are for; give --model.")
        known = know_model(name)
        is_whole = not known.files.may_lack_weights or has_weights(known.files)
        source = open_weights(known.files if is_whole else resolve(name))
        if source is None:
            raise ModelError(
                f"{name} is a config without weights, so there is nothing to merge into; "
                "name a model with weights with --model."
            )
        opened.callback(source.close)
        weights = MergedWeights(known.spec, source, adapters)
        close = opened.pop_all().close
    return Merged(model=name, known=known, adapters=adapters, weights=weights, close=close)
