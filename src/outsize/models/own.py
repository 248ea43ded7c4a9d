"""A model that the caller of a Python function brings along."""

from torch import nn

from outsize.errors import ModelError
from outsize.models.layered import LayeredModel
from outsize.models.sequential import Sequential, from_sequential
from outsize.ops.dtypes import TORCH_DTYPES


def as_layers(model: object, dtype: str) -> LayeredModel:
    """Return a `nn.Sequential`, or layers that were made before, as a layered model.

    Args:
        model: what the caller brought.
        dtype: `bfloat16` or `float32`; layers that were made before must have it.

    Raises:
        ModelError: it is neither, takes no tokens, or has another dtype.
    """
    wanted = TORCH_DTYPES[dtype]
    layers = from_sequential(model, dtype=wanted) if isinstance(model, nn.Sequential) else model
    if not isinstance(layers, Sequential):
        raise ModelError(
            f"{type(model).__name__} is no model that can be trained in parts. Give a name, a "
            "nn.Sequential, or what outsize.models.sequential.from_layers makes of your layers."
        )
    if layers.dtype != wanted:
        raise ModelError(f"These layers were made with dtype={layers.dtype}; train has {dtype}.")
    if layers.token_table is None:
        raise ModelError("The first layer must be a nn.Embedding, because data are tokens.")
    return layers
