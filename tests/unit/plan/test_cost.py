"""Seconds of layers from a processor's rates: the table of products, and how costs grow."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from decoders import make_blocks, make_decoder, processor
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.machines.catalogue import catalogue_machine, machine_names
from outsize.plan import cost
from outsize.plan.cost import CostModel, _MatmulTable
from outsize.plan.simulate import Costs
from outsize.plan.temporaries import temporaries_bytes
from outsize.spec.machine import MatmulRate, Processor
from outsize.spec.workload import TrainWorkload

MODEL = make_decoder(num_blocks=2, hidden=512, vocab=1000)
CATALOGUE = [catalogue_machine(name) for name in machine_names()]


def rate(rows: int, inner: int, columns: int, flops_per_s: float) -> MatmulRate:
    return MatmulRate(
        dtype="float32", rows=rows, inner=inner, columns=columns, flops_per_s=flops_per_s
    )


def workload(
    rows: int = 1, seq_length: int = 256, dtype: str = "bfloat16", num: int = 4
) -> TrainWorkload:
    return TrainWorkload(
        rows_per_step=num * rows,
        micro_batch_rows=rows,
        seq_length=seq_length,
        dtype=dtype,
        clip=True,
    )


def costs(
    asked: TrainWorkload, on: Processor | None = None, window_tokens: int | None = None
) -> Costs:
    on = processor() if on is None else on
    return CostModel(model=MODEL, blocks=make_blocks(MODEL, window_tokens), processor=on).costs(
        asked
    )


GRID = st.lists(st.integers(0, 12).map(lambda power: 2**power), min_size=1, max_size=5, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> list[MatmulRate]:
    """Rates at every pair of some rows and some sizes of matrices."""
    rates = st.floats(1e6, 1e15)
    return [
        rate(rows, inner, 64, draw(rates)) for inner in draw(GRID) for rows in draw(st.just(ROWS))
    ]


ROWS = (1, 16, 64, 4096)


@settings(deadline=None, max_examples=60)
@given(tables())
def test_the_table_hits_its_points(rates) -> None:
    table = _MatmulTable(rates)
    for one in rates:
        found = table.at(one.rows, one.inner * one.columns)
        assert found == pytest.approx(one.flops_per_s, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(tables(), st.integers(1, 2**16), st.integers(1, 2**24))
def test_between_its_points_the_table_lies_between_them(rates, rows, elements) -> None:
    found = _MatmulTable(rates).at(rows, elements)
    known = [one.flops_per_s for one in rates]
    assert min(known) * (1 - 1e-9) <= found <= max(known) * (1 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(tables(), st.integers(1, 1000))
def test_beyond_its_ends_the_table_stays_what_it_is(rates, factor) -> None:
    table = _MatmulTable(rates)
    sizes = sorted({one.inner * one.columns for one in rates})
    for size in (sizes[0], sizes[-1]):
        assert table.at(ROWS[-1] * factor, size) == pytest.approx(table.at(ROWS[-1], size))
    for rows in ROWS:
        assert table.at(rows, sizes[-1] * factor) == pytest.approx(table.at(rows, sizes[-1]))
        least = max(1, sizes[0] // factor)
        assert table.at(rows, least) == pytest.approx(table.at(rows, sizes[0]))


def test_halfway_on_a_logarithmic_scale_is_the_geometric_mean() -> None:
    table = _MatmulTable([rate(1, 8, 8, 1e9), rate(100, 8, 8, 4e9)])
    assert table.at(10, 64) == pytest.approx(2e9)
    assert table.at(10, 10**6) == pytest.approx(2e9)


@pytest.mark.parametrize("rows", [1, 16, 64, 1000, 4096, 10**6])
def test_two_shapes_of_one_size_are_no_obstacle(rows: int) -> None:
    """A matrix and its transpose have the same number of elements, but not the same rate."""
    both = [
        rate(n, inner, columns, flops)
        for n in ROWS
        for inner, columns, flops in ((8, 32, 1e9 * n), (32, 8, 2e9 * n))
    ]
    found = _MatmulTable(both).at(rows, 256)
    assert 1e9 * min(rows, 4096) * (1 - 1e-9) <= found <= 2e9 * min(rows, 4096) * (1 + 1e-9)


@pytest.mark.parametrize("machine", CATALOGUE, ids=lambda machine: machine.name)
def test_every_machine_can_be_planned_for(machine) -> None:
    processors = [machine.host, *([machine.accelerator.processor] if machine.accelerator else [])]
    for one in processors:
        for dtype in ("bfloat16", "float32"):
            for seq_length in (1, 17, 8192):
                for found in costs(workload(1, seq_length, dtype), one).values():
                    assert 0 <= found.forward_s < math.inf
                    assert 0 < found.backward_s < math.inf


@pytest.mark.parametrize("machine", CATALOGUE[:4], ids=lambda machine: machine.name)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_more_tokens_never_take_less_time(machine, dtype: str) -> None:
    for grow in (lambda n: workload(n, 128, dtype), lambda n: workload(1, 64 * n, dtype)):
        found = [costs(grow(2**power), machine.host) for power in range(7)]
        for less, more in pairwise(found):
            for key in less:
                assert more[key].forward_s >= less[key].forward_s
                assert more[key].backward_s > less[key].backward_s


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 64), st.sampled_from([1, 64, 1000]), st.sampled_from([1e9, 1e12, 1e15]))
def test_keeping_products_saves_their_time_and_never_costs_any(rows, length, flops_per_s) -> None:
    found = costs(workload(rows, length), processor(flops_per_s))
    for layer in MODEL.layers:
        keeps, recomputes = found[layer.signature, True], found[layer.signature, False]
        assert keeps.forward_s == recomputes.forward_s
        assert keeps.backward_s <= recomputes.backward_s
    block = MODEL.layers[1]
    matrices = sum(math.prod(t.shape) for t in block.tensors if len(t.shape) == 2)
    saved_s = found[block.signature, False].backward_s - found[block.signature, True].backward_s
    assert saved_s == pytest.approx(2 * rows * length * matrices / flops_per_s, rel=1e-6)


def test_layers_of_one_signature_have_one_cost() -> None:
    found = costs(workload())
    signatures = {layer.signature for layer in MODEL.layers}
    assert len(signatures) == 3 < len(MODEL.layers)
    assert set(found) == {(name, keeps) for name in signatures for keeps in (False, True)}
    deeper = make_decoder(num_blocks=7, hidden=512, vocab=1000)
    again = CostModel(model=deeper, blocks=make_blocks(deeper), processor=processor())
    assert again.costs(workload()) == found


def test_the_number_of_micro_batches_makes_no_difference() -> None:
    assert costs(workload(num=1)) == costs(workload(num=64))


def test_a_block_by_hand() -> None:
    found = costs(workload(2, 128), processor(1e12))[MODEL.layers[1].signature, False]
    tokens, hidden = 256, 512
    matrices = hidden * (hidden + hidden // 2 + hidden // 2 + hidden + 3 * 3 * hidden)
    widths = hidden + hidden // 2 + hidden // 2 + hidden + 3 * hidden + 3 * hidden + hidden
    products_s = 2 * tokens * matrices / 1e12
    rest_s = tokens * 2 * (36 * hidden + 6 * widths) / 2e10
    attention_flops = 4 * (128 * 128 / 2) * 64 * (2 * 8)
    attention_s, backward_s = attention_flops / 2.5e11, 2.5 * attention_flops / 1.25e11
    assert found.forward_s == pytest.approx(products_s + rest_s + attention_s + cost._CALL_S)
    assert found.backward_s == pytest.approx(
        products_s + rest_s + 2 * (products_s + rest_s + cost._CALL_S) + backward_s
    )


def test_attention_in_a_window_takes_no_longer_than_all_of_it() -> None:
    key = MODEL.layers[1].signature, False
    found = [
        costs(workload(1, 1024), window_tokens=window)[key] for window in (16, 256, 1024, 4096)
    ]
    full = costs(workload(1, 1024))[key]
    assert found[0].forward_s < found[1].forward_s < found[2].forward_s == found[3].forward_s
    assert found[3] == full


def test_attention_that_is_not_fused_takes_room_and_time_for_every_score() -> None:
    """As Gemma 2's, whose scores have a cap: none is kept, and the window saves nothing."""
    eager = replace(MODEL, attention_heads=0, attention_head_size=0)
    asked, longer = workload(2, 1024), workload(2, 2048)
    blocks, windowed = make_blocks(MODEL), make_blocks(MODEL, 16)
    heads, pairs = blocks[0].num_heads, 2 * 1024**2
    more_bytes = temporaries_bytes(eager, blocks, asked) - temporaries_bytes(MODEL, blocks, asked)
    assert more_bytes > 15 * heads * pairs
    key = MODEL.layers[1].signature, False
    fused, unfused, unfused_longer, in_window = (
        CostModel(model=model, blocks=shapes, processor=processor()).costs(step)[key]
        for model, shapes, step in (
            (MODEL, blocks, asked),
            (eager, blocks, asked),
            (eager, blocks, longer),
            (eager, windowed, asked),
        )
    )
    assert in_window == unfused
    assert unfused.forward_s > fused.forward_s
    # The backward computes the attention again, since nothing of it was kept.
    fused_flops = 4 * (pairs / 2) * 64 * heads
    attention_s = unfused.forward_s - (fused.forward_s - fused_flops / 1.25e11)
    rest_s = fused.backward_s - 2.5 * fused_flops / 6.25e10
    assert unfused.backward_s - rest_s == pytest.approx(3 * attention_s)
    assert unfused_longer.forward_s > 2 * unfused.forward_s


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_attention_without_a_rate_is_worked_out_from_products(dtype: str) -> None:
    on = replace(processor(dtypes=("bfloat16", "float32")), attention=())
    key = MODEL.layers[1].signature, False
    short, long = (costs(workload(1, length, dtype), on)[key] for length in (256, 2048))
    assert 0 < short.forward_s < long.forward_s < math.inf
    only_16 = replace(processor(dtypes=("bfloat16", "float32")), attention=processor().attention)
    assert costs(workload(1, 256, "float32"), only_16)[key].forward_s > 0


def test_temporaries_grow_with_the_micro_batch_and_its_dtype() -> None:
    def size_bytes(rows: int, dtype: str = "bfloat16") -> int:
        return temporaries_bytes(MODEL, make_blocks(MODEL), workload(rows, 512, dtype))

    sizes = [size_bytes(rows) for rows in (1, 2, 8)]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] < size_bytes(8, "float32") < 2 * sizes[2]
