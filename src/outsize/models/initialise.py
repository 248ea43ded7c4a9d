"""Weights for training from scratch, as the model's own initialisation makes them.

They are drawn straight into memory that the caller has. All parameters of a skeleton are on the
meta device and marked as initialised, which Transformers' initialisation skips. One is replaced by
a real tensor over that memory for the time of the call. Each has a random stream of its own, made
of the seed and its name, so its values do not depend on which others are made, in which order.
"""

import hashlib

import torch
from torch import Tensor, nn
from transformers.initialization import guard_torch_init_functions
from transformers.modeling_utils import PreTrainedModel

from outsize.errors import ModelError
from outsize.models.layered import LayeredModel

_CHECKED_ELEMENTS = 2**20
"""Elements that are looked at together; a flag for each takes memory."""


def initial_values(model: LayeredModel, index: int, seed: int) -> dict[str, Tensor]:
    """Return the initial values of layer `index` by name: in fp32 what is trained, in the compute
    dtype what is not.

    Raises:
        ModelError: Transformers' code does not say how one of them is initialised.
    Cost: 4 bytes an element of the layer, or those of the compute dtype.
    """
    tensors = model.spec.layers[index].tensors
    dtypes = {True: torch.float32, False: model.dtype}
    values = {t.name: torch.empty(t.shape, dtype=dtypes[t.trainable]) for t in tensors}
    model.initialise(index, seed, values)
    return values


def initialise_tensor(
    causal: PreTrainedModel,
    module: nn.Module,
    parameter_name: str,
    tensor_name: str,
    seed: int,
    value: Tensor,
) -> None:
    """Write the value that the initialisation of `causal` gives to one parameter.

    Args:
        causal: the model whose rules hold.
        module: the part of it that has the parameter, with all parameters on the meta device.
        parameter_name: the parameter's name in that part.
        tensor_name: its name in the model's files.
        seed: together with `tensor_name`, decides the values.
        value: of the parameter's shape; is overwritten.

    Raises:
        ModelError: the initialisation leaves the parameter alone.

    Cost: 1 MiB besides `value`.
    """
    owner_name, _, local_name = parameter_name.rpartition(".")
    owner = module.get_submodule(owner_name)
    placeholder = owner.get_parameter(local_name)
    real = nn.Parameter(value.fill_(torch.nan), requires_grad=False)
    owner.register_parameter(local_name, real)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), guard_torch_init_functions():
            torch.manual_seed(stream_seed(seed, tensor_name))
            module.apply(causal._init_weights)
    finally:
        owner.register_parameter(local_name, placeholder)
    if any(bool(part.isnan().any()) for part in value.view(-1).split(_CHECKED_ELEMENTS)):
        raise ModelError(
            f"{type(causal).__name__} does not say how {tensor_name} is initialised, so it cannot "
            "be trained from scratch; start from a folder with weights."
        )


def stream_seed(seed: int, name: str) -> int:
    """Return the seed of a random stream of its own."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
