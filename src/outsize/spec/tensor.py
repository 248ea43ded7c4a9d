"""What is known of a tensor without its bytes."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from outsize.values import Packing

DType = Literal["float32", "bfloat16"]

DTYPE_BYTES: dict[str, int] = {"float32": 4, "bfloat16": 2}

TENSOR_ALIGNMENT_BYTES = 64
"""Tensors inside a region start at multiples of this, as PyTorch's own CPU allocator does it."""

PAGE_BYTES = 4096
"""Regions start and end at multiples of this, which direct I/O needs."""

_NO_DECAY_NAME = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


def is_named_without_decay(name: str) -> bool:
    """Tell whether a parameter's name keeps it from weight decay: a bias, or a norm's.

    It is the rule of the Hugging Face trainer, which leaves out the weights of `nn.LayerNorm` too,
    whatever their names.
    """
    return _NO_DECAY_NAME.search(name.lower()) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One named parameter of a layer.

    Attributes:
        name: the parameter's name in the model's state dict.
        shape: its shape; scalars have the empty shape.
        weight_decay: whether decoupled weight decay applies to it.
        trainable: whether steps change it; what they do not is only ever read.
        added: whether the method has added it, so that no file of the model holds it.
        packing: how it is packed, where steps only read it; None for the compute dtype.
    """

    name: str
    shape: tuple[int, ...]
    weight_decay: bool
    trainable: bool = True
    added: bool = False
    packing: Packing | None = None

    @property
    def num_elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)
