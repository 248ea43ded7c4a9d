"""What modules say about themselves: tensors, weight-decay groups and signatures.

Two layers have the same signature when they would run the same kernels on the same shapes; then one
of them is profiled for all. The neighbour to read next is `decoder.py`.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import nn

from outsize.errors import ModelError
from outsize.spec.model import LayerKind, LayerSpec, ModelSpec
from outsize.spec.tensor import TensorSpec, is_named_without_decay

# Attributes that number a layer; the work it does is the same.
_LAYER_NUMBERS = frozenset({"layer_idx", "layer_id"})


def describe_layer(
    name: str,
    kind: LayerKind,
    modules: Mapping[str, nn.Module],
    tied: frozenset[str],
    file_name: Callable[[str], str] = str,
) -> LayerSpec:
    """Return the spec of a layer.

    Args:
        name: its readable name.
        kind: its kind.
        modules: the modules that the layer consists of, by their names in the model, in state-dict
            order.
        tied: names of parameters that belong to another layer.
        file_name: gives the name in files of a parameter, by its name in the model.
    """
    without_decay = {n for p, m in modules.items() for n in _layer_norm_names(p, m)}
    tensors = tuple(
        TensorSpec(
            name=file_name(full_name),
            shape=tuple(parameter.shape),
            weight_decay=full_name not in without_decay and not is_named_without_decay(full_name),
        )
        for prefix, module in modules.items()
        for full_name, parameter in module.named_parameters(prefix)
        if full_name not in tied
    )
    return LayerSpec(name=name, kind=kind, signature=_signature(kind, modules), tensors=tensors)


def with_signatures(described: ModelSpec, formula: ModelSpec) -> ModelSpec:
    """Return a description of modules with the signatures that its config gives the layers.

    They are what a plan without modules knows the layers by. Where the modules are not what the
    formula says, or differ where it sees no difference, the signatures of the modules stay.

    Args:
        described: what the modules say.
        formula: what `formats.model_spec` makes of the model's config.
    """
    layers = tuple(zip(described.layers, formula.layers, strict=False))
    is_same = len(described.layers) == len(formula.layers) and all(
        (found.name, found.kind, found.tensors) == (said.name, said.kind, said.tensors)
        for found, said in layers
    )
    pairs = {(said.signature, found.signature) for found, said in layers}
    if not is_same or len({said for said, _ in pairs}) < len(pairs):
        return described
    signed = tuple(replace(found, signature=said.signature) for found, said in layers)
    return replace(described, layers=signed)


def with_adapters(described: ModelSpec, formula: ModelSpec) -> ModelSpec:
    """Return a description of modules that says what of them is added, trained and packed.

    Args:
        described: what the modules say.
        formula: the spec of the same model with adapters; see `spec.adapter`.

    Raises:
        ModelError: the modules have adapters elsewhere.
    """
    said = {t.name: t for layer in formula.layers for t in layer.tensors}
    found = {t.name for layer in described.layers for t in layer.tensors}
    if found != said.keys():
        raise ModelError(
            f"PEFT and the configuration of this {described.architecture} disagree on where the "
            f"adapters are: {', '.join(sorted(found ^ said.keys())[:3])}."
        )
    layers = tuple(
        replace(
            layer,
            tensors=tuple(
                replace(
                    tensor,
                    trainable=said[tensor.name].trainable,
                    added=said[tensor.name].added,
                    packing=said[tensor.name].packing,
                )
                for tensor in layer.tensors
            ),
        )
        for layer in described.layers
    )
    return replace(described, layers=layers)


def _layer_norm_names(prefix: str, module: nn.Module) -> list[str]:
    return [
        name
        for path, part in module.named_modules(prefix=prefix)
        if isinstance(part, nn.LayerNorm)
        for name, _ in part.named_parameters(path)
    ]


def _signature(kind: LayerKind, modules: Mapping[str, nn.Module]) -> str:
    facts = [
        fact
        for number, module in enumerate(modules.values())
        for path, part in module.named_modules(prefix=str(number))
        for fact in (f"{path}:{type(part).__qualname__}", *_settings(path, part))
    ]
    digest = hashlib.blake2b("\n".join(facts).encode(), digest_size=6).hexdigest()
    first = next(iter(modules.values()), None)
    return f"{kind}:{type(first).__name__}:{digest}"


def _settings(path: str, module: nn.Module) -> list[str]:
    """Return shapes and plain attributes; floats (scales, epsilons) change values, not work."""
    shapes = [f"{path}.{n}={tuple(p.shape)}" for n, p in module.named_parameters(recurse=False)]
    plain = [
        f"{path}.{name}={value}"
        for name, value in sorted(vars(module).items())
        if isinstance(value, (bool, int, str, type(None)))
        and name not in _LAYER_NUMBERS
        and not name.startswith("_")
    ]
    return shapes + plain
