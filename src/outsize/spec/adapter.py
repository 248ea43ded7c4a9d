"""Low-rank adapters as facts: which matrices of a model get one, and of what size.

The base stays as it is and is only read; each chosen matrix `W [out, in]` gets `A [r, in]` and
`B [out, r]`, and its layer returns `W x + scaling B A x` (LoRA: Hu et al., 2021, "LoRA: Low-Rank
Adaptation of Large Language Models", equation 3). With a magnitude `m [out]`, it returns
`m (W + scaling B A) x / |W + scaling B A|`, the norm taken of each row (DoRA: Liu et al., 2024,
"DoRA: Weight-Decomposed Low-Rank Adaptation", equation 5). Names and rules are PEFT's, so that its
configuration means the same here. `models/adapters.py` puts PEFT's own modules in place.
"""

import difflib
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

from outsize.errors import UsageError
from outsize.spec.model import LayerSpec, ModelSpec
from outsize.spec.tensor import TensorSpec
from outsize.values import Packing

ALL_LINEAR = "all-linear"
"""Every matrix of every block."""

_IN_FIRST = frozenset({"GPT2LMHeadModel"})
"""Architectures whose blocks keep their matrices as `[in, out]`."""

InitLoraWeights = Literal["default", "gaussian"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """What `peft.LoraConfig` says of adapters.

    Attributes:
        r: rank of each adapter.
        lora_alpha: their product is scaled by `lora_alpha / r`.
        lora_dropout: share of an adapter's inputs that is left out at random in training.
        target_modules: ends of the names of the modules that get one, or a pattern that their whole
            names match, or `all-linear`.
        exclude_modules: ends of names, or a pattern, of modules that get none.
        use_rslora: whether the scale is `lora_alpha / sqrt(r)` (Kalajdzievski, 2023).
        use_dora: whether each has a magnitude too.
        init_lora_weights: how `A` is drawn; `B` starts at zero.
        layers_to_transform: numbers of the blocks that get adapters; empty for all.
        rank_pattern: another rank for modules whose names end in a key, as a pattern.
        alpha_pattern: likewise another `lora_alpha`.
    """

    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] | str = ALL_LINEAR
    exclude_modules: tuple[str, ...] | str = ()
    use_rslora: bool = False
    use_dora: bool = False
    init_lora_weights: InitLoraWeights = "default"
    layers_to_transform: tuple[int, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def rank(self, module: str) -> int:
        """Return the rank of a module's adapter."""
        return self.rank_pattern.get(_pattern_key(self.rank_pattern, module), self.r)

    def scaling(self, module: str) -> float:
        """Return the factor on a module's adapter."""
        alpha = self.alpha_pattern.get(_pattern_key(self.alpha_pattern, module), self.lora_alpha)
        rank = self.rank(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def targets(self, module: str, number: int) -> bool:
        """Tell whether a matrix gets an adapter.

        Args:
            module: name of its module in the model.
            number: of its block.
        """
        if self.exclude_modules and _matches(self.exclude_modules, module):
            return False
        if self.layers_to_transform and number not in self.layers_to_transform:
            return False
        return self.target_modules == ALL_LINEAR or _matches(self.target_modules, module)


def _matches(wanted: tuple[str, ...] | str, module: str) -> bool:
    if isinstance(wanted, str):
        return re.fullmatch(wanted, module) is not None
    return any(module == end or module.endswith(f".{end}") for end in wanted)


def _pattern_key(patterns: Mapping[str, object], module: str) -> str:
    return next((key for key in patterns if re.match(pattern_of_key(key), module)), module)


def pattern_of_key(key: str) -> str:
    """Return what a key of `rank_pattern` or `alpha_pattern` stands for: the end of a name."""
    return rf"(.*\.)?({key})$"


def has_in_first(architecture: str) -> bool:
    """Tell whether the blocks of an architecture keep their matrices as `[in, out]`."""
    return architecture in _IN_FIRST


def adapt(model: ModelSpec, settings: AdapterSettings, packing: Packing | None = None) -> ModelSpec:
    """Return the spec of a model with adapters: the base frozen, the adapters after their matrices.

    Args:
        model: the model.
        settings: of the adapters.
        packing: how the matrices of the blocks are packed; None leaves them in the compute dtype.

    Raises:
        UsageError: no matrix is meant, a wanted name is none, or a rank is larger than its matrix.
    """
    blocks = {id(layer): n for n, layer in enumerate(model.layers[1:-1])}
    in_first = has_in_first(model.architecture)
    layers = tuple(
        _adapted(layer, settings, blocks.get(id(layer)), in_first, packing)
        for layer in model.layers
    )
    adapted = replace(model, layers=layers)
    _check_targets(adapted, settings)
    return adapted


def _adapted(
    layer: LayerSpec,
    settings: AdapterSettings,
    number: int | None,
    in_first: bool,
    packing: Packing | None,
) -> LayerSpec:
    """Freeze a layer and add its adapters; `number` is None outside the blocks."""
    is_block = number is not None
    tensors: list[TensorSpec] = []
    modules = groupby(layer.tensors, key=lambda tensor: tensor.name.rpartition(".")[0])
    for module, own in modules:
        found = tuple(own)
        for tensor in found:
            own_packing = packing if is_block and _is_matrix(tensor) else None
            tensors.append(replace(tensor, trainable=False, packing=own_packing))
        matrix = next(filter(_is_matrix, found), None)
        if number is not None and matrix is not None and settings.targets(module, number):
            tensors += _adapter(module, matrix, settings, in_first)
    added = [t for t in tensors if t.added]
    signature = _signature(layer, added, settings, packing if is_block else None)
    return replace(layer, tensors=tuple(tensors), signature=signature)


def _is_matrix(tensor: TensorSpec) -> bool:
    return len(tensor.shape) == 2 and tensor.name.endswith(".weight")


def _adapter(
    module: str, matrix: TensorSpec, settings: AdapterSettings, in_first: bool
) -> Iterator[TensorSpec]:
    rows, columns = matrix.shape[::-1] if in_first else matrix.shape
    rank = settings.rank(module)
    if rank > min(rows, columns):
        raise UsageError(
            f"The rank {rank} of {module}'s adapter is larger than its matrix of "
            f"{rows} x {columns}; use --lora-r {min(rows, columns)} or less."
        )
    shapes: dict[str, tuple[int, ...]] = {
        "lora_A.weight": (rank, columns),
        "lora_B.weight": (rows, rank),
    }
    if settings.use_dora:
        shapes["lora_magnitude_vector"] = (rows,)
    for name, shape in shapes.items():
        yield TensorSpec(name=f"{module}.{name}", shape=shape, weight_decay=True, added=True)


def _signature(
    layer: LayerSpec, added: list[TensorSpec], settings: AdapterSettings, packing: Packing | None
) -> str:
    """Return the signature of a frozen layer: its own, and what its adapters add to its work."""
    prefix = f"{layer.name}."
    facts = [f"{t.name.removeprefix(prefix)}={t.shape}" for t in added]
    facts.append(f"dropout={settings.lora_dropout > 0}")
    digest = hashlib.blake2b("\n".join(facts).encode(), digest_size=6).hexdigest()
    frozen = "frozen" if packing is None else packing
    return f"{layer.signature}:{frozen}{f':lora:{digest}' if added else ''}"


def _check_targets(model: ModelSpec, settings: AdapterSettings) -> None:
    blocks = model.layers[1:-1]
    modules = [t.name.rpartition(".")[0] for b in blocks for t in b.frozen if _is_matrix(t)]
    ends = tuple(dict.fromkeys(module.rpartition(".")[2] for module in modules))
    wanted = settings.target_modules
    for name in () if isinstance(wanted, str) else wanted:
        if not any(_matches((name,), module) for module in modules):
            close = difflib.get_close_matches(name, ends, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise UsageError(
                f"target_modules names {name}, and no matrix of the model's blocks is called so."
                f"{hint}\n  They are {', '.join(ends)}; {ALL_LINEAR} means all of them."
            )
    if not model.has_adapters:
        raise UsageError(
            "target_modules, exclude_modules and layers_to_transform leave no matrix that gets an "
            f"adapter; the model has {len(blocks)} blocks with {', '.join(ends)}."
        )
