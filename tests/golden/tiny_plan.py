"""The plan of one tiny tied decoder, as text. Run this file to write `tiny_plan.txt` anew."""

from pathlib import Path

from outsize.plan.layout import Layout
from outsize.plan.search import plan_train_step
from outsize.spec.machine import Lanes, LayerCost
from outsize.spec.model import LayerKind, LayerSpec, ModelSpec
from outsize.spec.tensor import TensorSpec
from outsize.spec.workload import TrainWorkload

GOLDEN = Path(__file__).with_suffix(".txt")
_ARENA_BYTES = 160 * 1024
_HIDDEN, _VOCAB = 64, 128


def _layer(name: str, kind: LayerKind, **shapes: tuple[int, ...]) -> LayerSpec:
    tensors = tuple(
        TensorSpec(name=f"{name}.{key}", shape=shape, weight_decay=len(shape) > 1)
        for key, shape in shapes.items()
    )
    return LayerSpec(name=name, kind=kind, signature=kind, tensors=tensors)


def _layout() -> Layout:
    blocks = (
        _layer(f"blocks.{i}", "block", up=(_HIDDEN, _HIDDEN), norm=(_HIDDEN,)) for i in range(2)
    )
    model = ModelSpec(
        architecture="Tiny",
        layers=(
            _layer("embedding", "embedding", table=(_VOCAB, _HIDDEN)),
            *blocks,
            _layer("head", "head", norm=(_HIDDEN,)),
        ),
        hidden_size=_HIDDEN,
        vocab_size=_VOCAB,
        tied="embedding.table",
        projection="embedding.table",
        attention_heads=4,
        attention_head_size=16,
        max_positions=None,
    )
    workload = TrainWorkload(
        rows_per_step=2, micro_batch_rows=1, seq_length=32, dtype="bfloat16", clip=True
    )
    return Layout(model=model, workload=workload, span_elements=2048)


def plan_text() -> str:
    """Return the text of the plan as the planner makes it now."""
    layout = _layout()
    machine = Lanes(
        read_bytes_per_s=1e9,
        write_bytes_per_s=1e9,
        read_beside_write_bytes_per_s=7e8,
        write_beside_read_bytes_per_s=7e8,
        update_bytes_per_s=1e10,
    )
    costs = {
        (layer.signature, False): LayerCost(forward_s=1e-4, backward_s=3e-4)
        for layer in layout.model.layers
    }
    return plan_train_step(layout, _ARENA_BYTES, machine, costs).plan.to_text()


if __name__ == "__main__":
    GOLDEN.write_text(plan_text())
