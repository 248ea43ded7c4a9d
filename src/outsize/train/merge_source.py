"""The adapters of a run, or of a folder that PEFT has written, read by ranges. No torch."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from outsize.errors import FormatError, UsageError
from outsize.formats.safetensors import SafetensorsSource
from outsize.formats.source import Float32Array, StoredTensor, WeightSource
from outsize.paths import is_file, user_path
from outsize.runtime.events import Notice, OnEvent
from outsize.spec.adapter import AdapterSettings
from outsize.train.adapter import CONFIG_NAME, adapter_settings, settings_of_file
from outsize.train.committed import CommittedWeights, is_run
from outsize.train.export_adapter import FILE_PREFIX, FILE_STEM
from outsize.train.run_folder import base_of_run, read_options


def has_adapters(folder: Path) -> bool:
    """Tell whether a folder is a run that trained adapters, or one of PEFT's."""
    if is_run(folder):
        return read_options(folder).has_adapters
    return is_file(folder / CONFIG_NAME)


class Adapters:
    """Adapters by the names that they have in `spec.adapter`.

    Attributes:
        settings: of them.
        base: the model that they were trained on, as far as it is known.
        prepared: folder with the model's config and tokenizer; None where there is none.
    """

    def __init__(
        self,
        source: WeightSource,
        settings: AdapterSettings,
        base: str | None,
        prefix: str,
        prepared: Path | None = None,
    ) -> None:
        self._source = source
        self._prefix = prefix
        self.settings = settings
        self.base = base
        self.prepared = prepared

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor."""
        return {n.removeprefix(self._prefix): t for n, t in self._source.tensors.items()}

    def read(self, name: str, start: int, stop: int) -> Float32Array:
        """See `WeightSource.read`."""
        return self._source.read(f"{self._prefix}{name}", start, stop)

    def close(self) -> None:
        """Close the files, and let other processes at the run."""
        self._source.close()


def open_adapters(adapter: str, on_event: OnEvent) -> Adapters:
    """Open a run folder's adapters, or a folder of PEFT's.

    Raises:
        UsageError: it is neither a run that trained adapters nor a folder of PEFT's.
        OutsizeError: its files are damaged, or the run is in use.
    """
    folder = user_path(adapter)
    if is_run(folder):
        asked = read_options(folder)
        settings = adapter_settings(asked)
        if settings is None:
            raise UsageError(
                f"The run in {folder} trained the whole model and no adapters; "
                f"write it with: outsize export {folder}"
            )
        weights = CommittedWeights(folder, lambda text: on_event(Notice(text=text)))
        return Adapters(weights, settings, base_of_run(folder), "", folder / "model")
    if not is_file(folder / CONFIG_NAME) or not is_file(folder / f"{FILE_STEM}.safetensors"):
        raise UsageError(
            f"{folder} holds no adapters: there is no run in it, and no {CONFIG_NAME} with an "
            f"{FILE_STEM}.safetensors."
        )
    settings, base = settings_of_file(folder)
    source = SafetensorsSource(folder, f"{FILE_STEM}.safetensors")
    if not all(name.startswith(FILE_PREFIX) for name in source.tensors):
        with closing(source):
            raise FormatError(
                f"{folder / FILE_STEM}.safetensors has tensors whose names do not begin with "
                f"{FILE_PREFIX}, so PEFT has not written it."
            )
    return Adapters(source, settings, base, FILE_PREFIX)
