"""Signatures of a decoder's layers, from facts that a config states.

Layers with equal signatures run the same code on the same shapes, so what was measured on one holds
for the other. Nothing here needs a module, so the signature is known before a library is loaded.
Layers that users bring along have no config; `models/describe.py` signs those.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import fields

from outsize.spec.block import BlockShape
from outsize.spec.model import LayerKind
from outsize.spec.tensor import TensorSpec

_NOT_WORK = frozenset({"dtype"})
"""Facts of a block that do not change what it runs: the run chooses its dtype itself."""


def layer_signature(
    kind: LayerKind,
    architecture: str,
    name: str,
    tensors: Iterable[TensorSpec],
    *,
    block: BlockShape | None = None,
    facts: Iterable[str] = (),
) -> str:
    """Return what layers of the same work have in common.

    Args:
        kind: the layer's kind.
        architecture: class name of the model.
        name: the layer's name, which its tensors' names begin with; it does not count itself.
        tensors: the layer's tensors in order; names and shapes count.
        block: what a block computes; None for the other kinds.
        facts: whatever else the work depends on, in an order that is always the same.
    """
    parts = [f"{t.name.removeprefix(name + '.')}={t.shape}" for t in tensors]
    if block is not None:
        names = (field.name for field in fields(block) if field.name not in _NOT_WORK)
        parts += [f"{name}={getattr(block, name)}" for name in names]
    text = "\n".join((kind, architecture, *parts, *facts))
    digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    return f"{kind}:{architecture}:{digest}"
