"""What a user's modules must keep to be run one at a time, checked before they are.

The contract itself stands in `sequential.py`; here is the part of it that shows without a call.
"""

from collections import Counter
from collections.abc import Mapping

from torch import nn

from outsize.errors import ModelError


def check_contract(modules: Mapping[str, nn.Module], *, is_tied: bool) -> None:
    """Check what can be seen of modules without calling them.

    Args:
        modules: the layers by name, in order.
        is_tied: whether the last one's weight is the first one's table.

    Raises:
        ModelError: one keeps state between calls, is an embedding of a kind that is not supported,
            or shares a parameter with another.
    """
    for name, module in modules.items():
        parameters = dict(module.named_parameters(remove_duplicate=False))
        buffers = [n for n in module.state_dict() if n not in parameters]
        if buffers:
            raise ModelError(
                f"{name} keeps state between calls ({', '.join(buffers)}), which is not supported; "
                "use a layer without running statistics."
            )
        if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.sparse):
            raise ModelError(f"{name} has max_norm or sparse gradients, which are not supported.")
    _check_sharing(modules, is_tied=is_tied)


def _check_sharing(modules: Mapping[str, nn.Module], *, is_tied: bool) -> None:
    owners = Counter(id(p) for module in modules.values() for p in module.parameters())
    names = list(modules)
    if is_tied:
        owners[id(modules[names[0]].weight)] -= 1
    shared = [
        name
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters(prefix)
        if owners[id(parameter)] > 1
    ]
    if shared:
        raise ModelError(
            f"{' and '.join(shared)} are one parameter in several layers; "
            "only a linear head may share its weight, with the embedding."
        )
