"""Whether a model's files hold what its config asks for, found out before anything is read."""

from outsize.errors import FormatError
from outsize.formats.hub import ModelFiles, open_weights
from outsize.formats.source import WeightSource
from outsize.spec.model import ModelSpec


def check_files(files: ModelFiles, model: ModelSpec, where: str) -> None:
    """Compare a model's files, of which only the headers are read, with what its config asks for.

    Raises:
        FormatError: a file is damaged or too short, or a tensor is missing or has another shape.
    """
    source = open_weights(files)
    if source is None:
        return
    try:
        check_tensors(source, model, where)
    finally:
        source.close()


def check_tensors(source: WeightSource, model: ModelSpec, where: str) -> None:
    """Compare names and shapes of a model's files with what its config asks for.

    Raises:
        FormatError: a tensor is missing or has another shape; names the tensor and the file.
    """
    for layer in model.layers:
        for tensor in layer.tensors:
            if tensor.added:
                continue
            stored = source.tensors.get(tensor.name)
            if stored is None:
                raise FormatError(
                    f"{where} has no tensor {tensor.name}, which its config asks for."
                )
            if tuple(stored.shape) != tensor.shape:
                raise FormatError(
                    f"{stored.file}: tensor {tensor.name} has shape {tuple(stored.shape)}; "
                    f"its config asks for {tensor.shape}."
                )
