"""A model's spec from its config alone: arithmetic on names and sizes, in milliseconds.

`models/registry.py` builds the same `ModelSpec` from real modules, which takes torch and seconds to
import; tests hold the two together, and a run goes by its modules. The table of architectures is in
`shapes/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outsize.formats.check import check_tensors
from outsize.formats.config_file import read_config_file
from outsize.formats.gguf_entries import entries_from_gguf
from outsize.formats.gguf_file import GgufSource
from outsize.formats.hub import ModelFiles, has_weights, open_weights, resolve
from outsize.formats.shapes.decoder import DecoderShape, read_shape
from outsize.formats.shapes.families import FAMILIES
from outsize.formats.shapes.parts import Parts, layer_norm, linear, norm
from outsize.spec.block import BlockShape
from outsize.spec.model import LayerKind, LayerSpec, ModelSpec
from outsize.spec.signature import layer_signature
from outsize.spec.tensor import TensorSpec, is_named_without_decay

_PROJECTION = "lm_head"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """What is known of a model before anything is loaded.

    Attributes:
        files: where it is.
        spec: its layers and tensors.
        blocks: what each block computes, first block first.
    """

    files: ModelFiles
    spec: ModelSpec
    blocks: tuple[BlockShape, ...]


def know_model(model: str) -> KnownModel:
    """Find a model and read its config and the headers of its weights.

    Args:
        model: what `hub.resolve` accepts. Of a Hub model only the config is downloaded; weights
            that are not in the cache are not looked at.

    Raises:
        ModelError: there is no such model, or its config says nothing that can be trained.
        FormatError: a file is damaged, or holds other tensors than its config asks for; names the
            tensor and both shapes.

    Cost: reads headers; some hundred bytes of host memory a tensor.
    """
    files = resolve(model, with_weights=False)
    is_whole = not files.may_lack_weights or has_weights(files)
    source = open_weights(files) if is_whole else None
    try:
        if isinstance(source, GgufSource):
            path = source.path
            config, place = entries_from_gguf(path, source.header), f"the metadata of {path}"
        else:
            path = files.folder / "config.json"
            config, place = _causal_config(read_config_file(path)), str(path)
        shape = read_shape(config, place)
        spec = spec_of_shape(shape)
        if source is not None:
            check_tensors(source, spec, model)
    finally:
        if source is not None:
            source.close()
    return KnownModel(files=files, spec=spec, blocks=shape.blocks)


def spec_from_config(config: Mapping[str, Any], place: str = "this configuration") -> ModelSpec:
    """Return the spec that `models.registry.build` would give its model.

    Args:
        config: the content of a `config.json`.
        place: where it is, for messages.

    Raises:
        ModelError: the architecture or an option is not supported, or an entry is not what it must
            be; names it.

    Cost: no weights, no library; about a microsecond a tensor.
    """
    return spec_of_shape(read_shape(config, place))


def spec_of_shape(shape: DecoderShape) -> ModelSpec:
    """Return the spec of a model whose sizes are known."""
    family, words = shape.family, shape.words
    table = f"{family.base}.{family.table}.weight"
    return ModelSpec(
        architecture=family.name,
        layers=(_embedding(shape), *_blocks(shape), _head(shape)),
        hidden_size=words["hidden"],
        vocab_size=words["vocab"],
        tied=table if shape.is_tied else None,
        projection=table if shape.is_tied else f"{_PROJECTION}.weight",
        max_positions=words["positions"],
        attention_heads=words["heads"] if family.is_fused else 0,
        attention_head_size=words["head"] if family.is_fused else 0,
    )


def _causal_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config that names the causal model of its `model_type`, as `prepare.py` trains it.

    A checkpoint of the bare decoder names another class, and a class of ours that another
    `model_type` names is not ours.
    """
    known = {family.model_type: family.name for family in FAMILIES}
    named = config.get("architectures")
    names = named if isinstance(named, list | tuple) else []
    if config["model_type"] in known:
        names = [known[config["model_type"]]]
    elif set(map(str, names)) & set(known.values()):
        names = [config["model_type"]]
    return {**config, "architectures": names or [config["model_type"]]}


def _embedding(shape: DecoderShape) -> LayerSpec:
    family = shape.family
    parts = linear(family.table, "vocab", "hidden")
    if family.positions_table is not None:
        parts += linear(family.positions_table, "positions", "hidden")
    tensors = _tensors(shape, parts, f"{family.base}.")
    return _layer(shape, f"{family.base}.{family.table}", "embedding", tensors)


def _blocks(shape: DecoderShape) -> list[LayerSpec]:
    family = shape.family
    local = _tensors(shape, family.block, "")
    signatures: dict[BlockShape, str] = {}
    layers = []
    for index, block in enumerate(shape.blocks):
        name = f"{family.base}.{family.blocks}.{index}"
        if block not in signatures:
            signatures[block] = _layer(shape, "", "block", local, block).signature
        tensors = tuple(
            TensorSpec(name=f"{name}.{t.name}", shape=t.shape, weight_decay=t.weight_decay)
            for t in local
        )
        signature = signatures[block]
        layers.append(LayerSpec(name=name, kind="block", signature=signature, tensors=tensors))
    return layers


def _head(shape: DecoderShape) -> LayerSpec:
    family = shape.family
    final: Parts = ()
    if family.final_norm != "nothing":
        make = norm if family.final_norm == "weight" else layer_norm
        final = make(family.norm)
    projection = linear(_PROJECTION, "vocab", "hidden", family.has_projection_bias)
    tensors = (
        *_tensors(shape, final, f"{family.base}."),
        *_tensors(shape, projection[1:] if shape.is_tied else projection, ""),
    )
    return _layer(shape, _PROJECTION, "head", tensors)


def _tensors(shape: DecoderShape, parts: Parts, prefix: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=prefix + name,
            shape=sizes,
            weight_decay=not is_norm and not is_named_without_decay(prefix + name),
        )
        for name, sizes, is_norm in shape.tensors(parts)
    )


def _layer(
    shape: DecoderShape,
    name: str,
    kind: LayerKind,
    tensors: tuple[TensorSpec, ...],
    block: BlockShape | None = None,
) -> LayerSpec:
    words, family = shape.words, shape.family
    facts = [f"{switch}={is_on}" for switch, is_on in shape.switches.items()]
    if kind == "head":
        facts += [f"projection={words['vocab']}x{words['hidden']}"]
    signature = layer_signature(kind, family.name, name, tensors, block=block, facts=facts)
    return LayerSpec(name=name, kind=kind, signature=signature, tensors=tensors)
