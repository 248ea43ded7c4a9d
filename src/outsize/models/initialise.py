"""Weights for training from scratch, as the model's own initialisation makes them.

One tensor is made at a time. All parameters of a skeleton are on the meta device and marked as
initialised, which Transformers' initialisation skips. One is replaced by a real tensor for the time
of the call. Each has a random stream of its own, made of the seed and its name, so its values do
not depend on which others are made, in which order.
"""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers.initialization import guard_torch_init_functions
from transformers.modeling_utils import PreTrainedModel

from outsize.errors import ModelError
from outsize.models.layered import LayeredModel


def initial_values(model: LayeredModel, name: str, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Yield name and fp32 value of each tensor of the layer called `name`.

    Raises:
        ModelError: Transformers' code does not say how one of them is initialised.
    Cost: one tensor in fp32 at a time.
    """
    names = [layer.name for layer in model.spec.layers]
    return model.initial_values(names.index(name), seed)


def initial_tensor(
    causal: PreTrainedModel, module: nn.Module, module_name: str, tensor_name: str, seed: int
) -> Tensor:
    """Return the fp32 value that the initialisation of `causal` gives to one parameter.

    Args:
        causal: the model whose rules hold.
        module: the part of it that has the parameter, with all parameters on the meta device.
        module_name: the part's name in the model.
        tensor_name: the parameter's name in the model.
        seed: together with `tensor_name`, decides the values.

    Raises:
        ModelError: the initialisation leaves the parameter alone.
    """
    owner_name, _, local_name = tensor_name.removeprefix(f"{module_name}.").rpartition(".")
    owner = module.get_submodule(owner_name)
    placeholder = owner.get_parameter(local_name)
    real = nn.Parameter(torch.full(placeholder.shape, torch.nan), requires_grad=False)
    owner.register_parameter(local_name, real)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), guard_torch_init_functions():
            torch.manual_seed(_stream(seed, tensor_name))
            module.apply(causal._init_weights)
    finally:
        owner.register_parameter(local_name, placeholder)
    if bool(real.isnan().any()):
        raise ModelError(
            f"{type(causal).__name__} does not say how {tensor_name} is initialised, so it cannot "
            "be trained from scratch; start from a folder with weights."
        )
    return real.detach()


def _stream(seed: int, name: str) -> int:
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
