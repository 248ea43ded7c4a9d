"""Small models, workloads and machines for planner tests, drawn at random or by name."""

import inspect
import math
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import strategies as st

from outsize.plan.actions import Action, Fetch, WriteBack
from outsize.plan.layout import Layout
from outsize.plan.schedule import train_step, uses
from outsize.spec.machine import Lanes, LayerCost
from outsize.spec.model import LayerKind, LayerSpec, ModelSpec
from outsize.spec.tensor import DType, TensorSpec
from outsize.spec.workload import TrainWorkload
from outsize.values import MomentBits


def lanes(read_bytes_per_s: float, write_bytes_per_s: float, update_bytes_per_s: float) -> Lanes:
    """Lanes that do not disturb each other, nor the arithmetic."""
    return Lanes(
        read_bytes_per_s=read_bytes_per_s,
        write_bytes_per_s=write_bytes_per_s,
        read_beside_write_bytes_per_s=read_bytes_per_s,
        write_beside_read_bytes_per_s=write_bytes_per_s,
        update_bytes_per_s=update_bytes_per_s,
    )


MACHINE = lanes(2e9, 1e9, 1e10)


def tensor(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, shape=shape, weight_decay=len(shape) > 1)


def layer(name: str, kind: LayerKind, *tensors: TensorSpec) -> LayerSpec:
    shapes = ",".join(str(t.shape) for t in tensors)
    return LayerSpec(name=name, kind=kind, signature=f"{kind}({shapes})", tensors=tensors)


def make_model(
    *,
    num_blocks: int = 2,
    hidden: int = 32,
    vocab: int = 64,
    tied: bool = True,
    norms: bool = True,
    black_box: bool = False,
    attention_heads: int = 0,
    trains: str = "everything",
) -> ModelSpec:
    """A decoder: `norms` gives the blocks and the head tensors of their own besides matrices,
    `black_box` leaves the head's projection to the head itself; `trains` is as of `freeze`.
    """
    norm = (tensor("norm", hidden),) if norms else ()
    own = () if tied else (tensor("head.out", vocab, hidden),)
    blocks = (
        layer(f"blocks.{i}", "block", tensor(f"{i}.up", 3, hidden), tensor(f"{i}.scale"), *norm)
        for i in range(num_blocks)
    )
    table = "table"
    projection = table if tied else "head.out"
    model = ModelSpec(
        architecture="Small",
        layers=(
            layer("embedding", "embedding", tensor(table, vocab, hidden)),
            *blocks,
            layer("head", "head", *norm, *own),
        ),
        hidden_size=hidden,
        vocab_size=vocab,
        tied=table if tied else None,
        projection=None if black_box else projection,
        attention_heads=attention_heads,
        attention_head_size=hidden,
        max_positions=None,
    )
    return model if trains == "everything" else freeze(model, trains)


def freeze(model: ModelSpec, trains: str) -> ModelSpec:
    """Freeze all but the `upper` half of the layers, or all but `adapters` of the upper half of the
    blocks, with the matrices of all blocks `packed` or not.
    """
    half = (len(model.layers) - 1) // 2
    layers = []
    for index, one in enumerate(model.layers):
        is_block, is_upper = 0 < index < len(model.layers) - 1, index >= half
        tensors = [replace(t, trainable=trains == "upper" and is_upper) for t in one.tensors]
        if is_block and trains == "packed":
            tensors = [replace(t, packing="nf4" if len(t.shape) == 2 else None) for t in tensors]
        if is_block and is_upper and trains != "upper":
            tensors.append(replace(tensor(f"{index}.lora", 2, 40), added=True))
        signature = f"{one.signature}{trains}{is_upper}"
        layers.append(replace(one, tensors=tuple(tensors), signature=signature))
    return replace(model, layers=tuple(layers))


def make_workload(
    *,
    num_micro_batches: int = 2,
    micro_batch_rows: int = 1,
    seq_length: int = 64,
    clip: bool = True,
    dtype: str = "bfloat16",
    num_moments: int = 2,
    moment_bits: MomentBits = 32,
    trained_dtype: DType | None = None,
) -> TrainWorkload:
    return TrainWorkload(
        rows_per_step=num_micro_batches * micro_batch_rows,
        micro_batch_rows=micro_batch_rows,
        seq_length=seq_length,
        dtype=dtype,
        clip=clip,
        num_moments=num_moments,
        moment_bits=moment_bits,
        trained_dtype=trained_dtype,
    )


def make_layout(span_elements: int = 1024, keeping_blocks: int = 0, **changes: object) -> Layout:
    """A layout of `make_model` and `make_workload`, each with the changes that are its own."""
    of_workload = {*inspect.signature(make_workload).parameters}
    workload = {key: value for key, value in changes.items() if key in of_workload}
    model = {key: value for key, value in changes.items() if key not in of_workload}
    return Layout(
        model=make_model(**model),
        workload=make_workload(**workload),
        span_elements=span_elements,
        keeping_blocks=keeping_blocks,
    )


def costs(layout: Layout, forward_s: float = 1e-4) -> dict[tuple[str, bool], LayerCost]:
    return {
        (spec.signature, keeps): LayerCost(forward_s=forward_s, backward_s=2 * forward_s)
        for spec in layout.model.layers
        for keeps in (False, True)
    }


def least_bytes(layout: Layout) -> int:
    """What the largest single action of a train step touches."""
    return max(
        sum(layout.region_bytes[use.region] for use in uses(layout, action))
        for action in train_step(layout)
    )


def list_bytes(actions: Iterable[Action], layout: Layout) -> tuple[int, int]:
    """What a list reads from disk and writes to it, action by action."""
    read = written = 0
    for action in actions:
        if isinstance(action, Fetch) and action.source == "disk":
            read += layout.region_bytes[action.region]
        if isinstance(action, WriteBack) and action.target == "disk":
            written += layout.region_bytes[action.region]
    return read, written


SHAPES = st.lists(st.integers(1, 40), max_size=3).map(tuple).filter(lambda s: math.prod(s) < 5000)


@st.composite
def layers(draw: st.DrawFn) -> LayerSpec:
    """A layer of tensors of any shape, one-element ones and none at all included."""
    shapes = draw(st.lists(SHAPES, max_size=6))
    return layer("any", "block", *(tensor(str(i), *shape) for i, shape in enumerate(shapes)))


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Layouts of small decoders: no block to four, tied or not, with or without a head of its
    own.
    """
    num_blocks = draw(st.integers(0, 4))
    methods = ["everything", "upper", *(["adapters", "packed"] if num_blocks else [])]
    trains = draw(st.sampled_from(methods))
    return make_layout(
        trains=trains,
        trained_dtype="float32" if trains in ("adapters", "packed") else None,
        span_elements=draw(st.sampled_from([512, 4096, 2**20])),
        keeping_blocks=draw(st.integers(0, 4)),
        num_blocks=num_blocks,
        hidden=draw(st.sampled_from([8, 32, 96])),
        vocab=draw(st.sampled_from([3, 64, 200])),
        tied=draw(st.booleans()),
        norms=draw(st.booleans()),
        black_box=draw(st.booleans()),
        attention_heads=draw(st.integers(0, 1)),
        num_micro_batches=draw(st.integers(1, 3)),
        micro_batch_rows=draw(st.integers(1, 2)),
        seq_length=draw(st.sampled_from([1, 16, 100])),
        clip=draw(st.booleans()),
        dtype=draw(st.sampled_from(["bfloat16", "float32"])),
        num_moments=draw(st.integers(0, 2)),
        moment_bits=draw(st.sampled_from([32, 8])),
    )
