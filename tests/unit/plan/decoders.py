"""Decoders with the proportions of real ones, what their layers cost, and all plans of one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st
from small_models import layer, tensor

from outsize.plan.choose import Candidate, smallest_budget_bytes
from outsize.plan.cost import CostModel
from outsize.plan.layout import Layout
from outsize.plan.residency import DoesNotFitError
from outsize.plan.search import Objective, PlannedStep, plan_train_step
from outsize.spec.block import BlockShape
from outsize.spec.machine import AttentionRate, Lanes, MatmulRate, Processor
from outsize.spec.model import LayerSpec, ModelSpec
from outsize.spec.workload import TrainWorkload

FIXED_BYTES = 20 * 2**20
LANES = Lanes(
    read_bytes_per_s=2e9,
    write_bytes_per_s=1e9,
    read_beside_write_bytes_per_s=1.2e9,
    write_beside_read_bytes_per_s=6e8,
    update_bytes_per_s=2e10,
    compute_loss_s_per_byte=5e-11,
)


def processor(flops_per_s: float = 5e11, dtypes: Sequence[str] = ("bfloat16",)) -> Processor:
    """A processor whose products run at one rate whatever their size."""
    return Processor(
        name="Round One",
        num_cores=2,
        memory_bytes=2**34,
        memory_bytes_per_s=4e10,
        elementwise_bytes_per_s=2e10,
        matmul=tuple(
            MatmulRate(dtype=dtype, rows=1024, inner=1024, columns=1024, flops_per_s=flops_per_s)
            for dtype in dtypes
        ),
        attention=tuple(
            AttentionRate(
                dtype=dtype,
                seq_length=1024,
                head_size=64,
                forward_flops_per_s=flops_per_s / 4,
                backward_flops_per_s=flops_per_s / 8,
            )
            for dtype in dtypes
        ),
    )


def make_block(name: str, hidden: int) -> LayerSpec:
    matrices = {
        "q": (hidden, hidden),
        "k": (hidden // 2, hidden),
        "v": (hidden // 2, hidden),
        "o": (hidden, hidden),
        "gate": (3 * hidden, hidden),
        "up": (3 * hidden, hidden),
        "down": (hidden, 3 * hidden),
    }
    tensors = (tensor(f"{name}.{key}", *shape) for key, shape in matrices.items())
    return layer(name, "block", *tensors, tensor(f"{name}.norm", hidden))


def make_decoder(
    num_blocks: int = 3, hidden: int = 256, vocab: int = 2000, tied: bool = True
) -> ModelSpec:
    own = () if tied else (tensor("out", vocab, hidden),)
    return ModelSpec(
        architecture="Decoder",
        layers=(
            layer("embedding", "embedding", tensor("table", vocab, hidden)),
            *(make_block(f"blocks.{i}", hidden) for i in range(num_blocks)),
            layer("head", "head", tensor("norm", hidden), *own),
        ),
        hidden_size=hidden,
        vocab_size=vocab,
        tied="table" if tied else None,
        projection="table" if tied else "out",
        max_positions=None,
        attention_heads=hidden // 64,
        attention_head_size=64,
    )


def make_blocks(model: ModelSpec, window_tokens: int | None = None) -> list[BlockShape]:
    block = BlockShape(
        num_heads=model.attention_heads,
        num_key_value_heads=max(1, model.attention_heads // 2),
        head_size=64,
        attention="full" if window_tokens is None else "sliding",
        window_tokens=window_tokens,
        has_rotary=True,
        feed_forward_size=3 * model.hidden_size,
        is_gated=True,
        activation="silu",
        dtype=None,
    )
    return [block] * (len(model.layers) - 2)


def make_candidate(
    model: ModelSpec,
    *,
    rows_per_step: int = 4,
    micro_batch_rows: int = 2,
    seq_length: int = 256,
    flops_per_s: float = 5e11,
    span_elements: int = 2**18,
    **changes: object,
) -> Candidate:
    """A candidate of a model; `changes` are those of its layout and of itself."""
    workload = TrainWorkload(
        rows_per_step=rows_per_step,
        micro_batch_rows=micro_batch_rows,
        seq_length=seq_length,
        dtype="bfloat16",
        clip=True,
    )
    of_layout = {k: v for k, v in changes.items() if k in ("keeping_blocks", "pins_products")}
    layout = Layout(model=model, workload=workload, span_elements=span_elements, **of_layout)
    costs = CostModel(
        model=model, blocks=make_blocks(model), processor=processor(flops_per_s)
    ).costs(workload)
    rest = {k: v for k, v in changes.items() if k not in of_layout}
    return Candidate(
        layout=layout, costs=costs, fixed_bytes=FIXED_BYTES, **{"chooses_keeping": True, **rest}
    )


@dataclass(frozen=True)
class Case:
    """What `choose` is asked: candidates, a host budget, and a machine."""

    candidates: tuple[Candidate, ...]
    budget_bytes: int
    machine: Lanes

    def at(self, budget_bytes: int) -> "Case":
        """The same at another budget."""
        return replace(self, budget_bytes=budget_bytes)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """One or two micro-batches of a decoder, a disk from slow to fast against the arithmetic, and a
    budget from a tenth above the smallest arena to room for everything.
    """
    model = make_decoder(
        num_blocks=draw(st.integers(2, 4)),
        hidden=draw(st.sampled_from([256, 512])),
        tied=draw(st.booleans()),
    )
    rows = draw(st.sampled_from([(1,), (2,), (4,), (2, 1)]))
    flops_per_s = draw(st.sampled_from([1e11, 5e11, 3e12]))
    seq_length = draw(st.sampled_from([128, 512]))
    candidates = tuple(
        make_candidate(model, micro_batch_rows=n, seq_length=seq_length, flops_per_s=flops_per_s)
        for n in rows
    )
    least, most = range_bytes(candidates)
    fraction = draw(st.sampled_from([0.02, 0.1, 0.3, 0.6, 1.0]))
    least += (least - FIXED_BYTES) // 10
    disk = draw(st.sampled_from([0.25, 1.0, 4.0]))
    machine = replace(
        LANES,
        **{
            f"{lane}_bytes_per_s": getattr(LANES, f"{lane}_bytes_per_s") * disk
            for lane in ("read", "write", "read_beside_write", "write_beside_read")
        },
    )
    return Case(candidates, int(least + fraction * max(0, most - least)), machine)


def range_bytes(candidates: Sequence[Candidate]) -> tuple[int, int]:
    """The smallest budget with a plan, and one that holds every region of the largest shape."""
    most = max(
        one.fixed_bytes
        + sum(replace(one.layout, keeping_blocks=one.layout.num_blocks).region_bytes.values())
        for one in candidates
    )
    return smallest_budget_bytes(candidates), most


def plans_of(
    candidate: Candidate, budget_bytes: int, machine: Lanes, objective: Objective = "time"
) -> Iterator[PlannedStep]:
    """Yield the plan of every number of blocks that may keep their products, where it fits."""
    chooses, fixed = candidate.chooses_keeping, candidate.layout.keeping_blocks
    for keeping in range(candidate.layout.num_blocks + 1) if chooses else (fixed,):
        layout = replace(candidate.layout, keeping_blocks=keeping)
        arena_bytes = (budget_bytes - candidate.fixed_bytes) // 4096 * 4096
        try:
            yield plan_train_step(layout, arena_bytes, machine, candidate.costs, objective)
        except DoesNotFitError:
            continue
