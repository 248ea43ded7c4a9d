"""Tensors, spans and regions: every element has one place, and places are aligned."""

from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import layer, layers, layouts, make_layout, tensor

from outsize.plan import layout as names
from outsize.plan.layer_layout import LayerLayout
from outsize.spec.model import LayerSpec

PAGE = 4096


def layer_layout(spec: LayerSpec, span_elements: int) -> LayerLayout:
    return LayerLayout(layer=spec, span_elements=span_elements)


@settings(deadline=None)
@given(layers(), st.sampled_from([1, 7, 32, 160, 10**6]))
def test_tensors_lie_in_order_aligned_and_apart(spec, span_elements):
    placed = layer_layout(spec, span_elements).tensors
    assert [p.tensor for p in placed] == list(spec.tensors)
    end = 0
    for p in placed:
        assert p.start % 32 == 0
        assert end <= p.start < end + 32
        end = p.start + p.tensor.num_elements
    assert end <= layer_layout(spec, span_elements).num_elements < end + 32


@settings(deadline=None)
@given(layers(), st.sampled_from([1, 7, 32, 160, 10**6]))
def test_pieces_cover_every_element_once_and_in_order(spec, span_elements):
    layout = layer_layout(spec, span_elements)
    found, end = [], 0
    for span in range(layout.num_spans):
        first, last = layout.span(span)
        assert first == end
        assert first < last <= first + span_elements
        end = last
        for piece in layout.pieces(span):
            assert first <= piece.start < piece.stop <= last
            start = piece.start - piece.placed.start
            name = piece.placed.tensor.name
            found += [(name, start + i) for i in range(piece.stop - piece.start)]
    assert end == layout.num_elements
    assert found == [(t.name, i) for t in spec.tensors for i in range(t.num_elements)]


def test_a_span_larger_than_the_layer_is_the_layer():
    layout = layer_layout(layer("any", "block", tensor("a", 5), tensor("b", 40)), 2**40)
    assert (layout.num_spans, layout.span(0)) == (1, (0, 96))
    assert layout.master_bytes(0) == layout.moment_bytes(0, 32) == layout.moment_bytes(0, 8) == PAGE


def test_a_layer_without_parameters_has_no_spans():
    layout = layer_layout(layer("any", "block", tensor("empty", 0, 3)), 32)
    assert (layout.num_elements, layout.num_spans) == (0, 0)


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_regions_are_pages_and_large_enough(layout):
    item = 2 if layout.workload.weights_dtype == "bfloat16" else 4
    for region, size in layout.region_bytes.items():
        assert size > 0, region
        assert size % PAGE == 0, region
    for index, own in enumerate(layout.layers):
        for region in (names.weights(index), names.gradient(index)):
            held = layout.region_bytes.get(region, 0)
            assert own.num_elements * item <= held < own.num_elements * item + PAGE
        for span in range(own.num_spans):
            first, last = own.span(span)
            assert own.master_bytes(span) >= 4 * (last - first)
            size = layout.region_bytes[names.state(index, span)]
            bits, count = layout.workload.moment_bits, layout.workload.num_moments
            moment_bytes = own.moment_bytes(span, bits)
            assert moment_bytes >= bits // 8 * (last - first)
            assert size == own.master_bytes(span) + count * moment_bytes


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_only_state_and_frozen_weights_are_durable(layout):
    durable = {region for region in layout.region_bytes if names.is_durable(region)}
    assert durable == {r for r in layout.region_bytes if r.startswith(("state/", "base/"))}
    found = sum(layout.region_bytes[r] for r in durable)
    assert found == layout.state_bytes + layout.base_bytes
    bits, count = layout.workload.moment_bits, layout.workload.num_moments
    assert layout.state_bytes >= (4 + bits // 8 * count) * layout.model.num_trainable


def test_region_names_by_example():
    layout = make_layout(num_blocks=1, num_micro_batches=1, attention_heads=1)
    assert set(layout.region_bytes) == {
        *("weights/0", "gradient/0", "norm_copy/0", "state/0/0", "state/0/1"),
        *("weights/1", "gradient/1", "norm_copy/1", "state/1/0"),
        *("weights/2", "gradient/2", "norm_copy/2", "state/2/0"),
        *("boundary/1/0", "boundary/2/0", "attention/1/0", "boundary_gradient/0"),
        *("tied_rows/0", "projection_gradient"),
    }
    assert names.role("boundary/2/0") == "boundary"


def test_products_take_a_row_of_each_matrix_for_each_token():
    layout = make_layout(
        num_blocks=1, num_micro_batches=1, seq_length=100, keeping_blocks=1, tied=False
    )
    assert "products/2/0" not in layout.region_bytes
    # One matrix of 3 rows, 100 tokens, two bytes a number.
    assert layout.region_bytes["products/1/0"] == PAGE
    long = make_layout(num_blocks=1, seq_length=1000, keeping_blocks=1)
    assert long.region_bytes["products/1/0"] == 2 * PAGE


def test_a_small_step_keeps_few_tied_rows():
    few = make_layout(hidden=96, vocab=64, seq_length=16, num_micro_batches=2)
    many = make_layout(hidden=96, vocab=64, seq_length=100, num_micro_batches=2)
    assert few.tied_rows_bytes == 2 * PAGE  # 32 tokens of 192 bytes
    assert many.tied_rows_bytes == 3 * PAGE  # 64 rows, the whole vocabulary
