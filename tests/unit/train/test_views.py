"""Tensors over regions share their bytes and lie where the layout says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import layer, layers, tensor

from outsize.plan.layer_layout import LayerLayout
from outsize.train.views import as_tensor, run_piece, run_tensors, span_state, state_piece


def memory(size_bytes: int) -> memoryview:
    return memoryview(bytearray(max(size_bytes, 1)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_tensor_begins_at_its_element_and_is_no_copy(dtype):
    view = memory(64)
    made = as_tensor(view, dtype, 2, (2, 3))
    made.fill_(1)
    whole = torch.frombuffer(view, dtype=dtype)
    assert whole.tolist() == [0, 0] + [1] * 6 + [0] * (len(whole) - 8)
    assert made.data_ptr() == whole.data_ptr() + 2 * dtype.itemsize


def test_scalars_and_empty_tensors_have_views():
    view = memory(16)
    as_tensor(view, torch.float32, 3, ()).fill_(5.0)
    assert torch.frombuffer(view, dtype=torch.float32).tolist() == [0, 0, 0, 5]
    assert as_tensor(view, torch.float32, 4, (0, 3)).shape == (0, 3)


@settings(deadline=None, max_examples=60)
@given(layers(), st.sampled_from([torch.bfloat16, torch.float32]))
def test_tensors_of_a_layer_have_their_shapes_and_do_not_overlap(spec, dtype):
    layout = LayerLayout(layer=spec, span_elements=64)
    view = memory(layout.num_elements * dtype.itemsize)
    tensors = run_tensors(view, layout.tensors, dtype)
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        t.name: t.shape for t in spec.tensors
    }
    for number, made in enumerate(tensors.values(), start=1):
        made.fill_(number)
    for number, made in enumerate(tensors.values(), start=1):
        assert bool((made == number).all())


@settings(deadline=None, max_examples=60)
@given(layers(), st.sampled_from([32, 96, 10**6]), st.integers(0, 2))
def test_pieces_of_state_and_run_are_the_same_elements(spec, span_elements, num_moments):
    layout = LayerLayout(layer=spec, span_elements=span_elements)
    run = memory(layout.num_elements * 4)
    for span in range(layout.num_spans):
        state = memory((1 + num_moments) * layout.master_bytes(span))
        master, moments = span_state(state, layout, span, num_moments)
        for piece in layout.pieces(span):
            own = state_piece(master, moments, layout, span, piece)
            assert len(own.moments) == num_moments
            for value, part in enumerate((own.master, *own.moments)):
                assert part.dtype == torch.float32
                assert len(part) == piece.stop - piece.start
                part += value + 1  # each element belongs to one piece: nothing is added to twice
            run_piece(run, piece, torch.float32).copy_(own.master)
        found = torch.frombuffer(state, dtype=torch.float32)
        values = range(1, 2 + num_moments)
        assert set(found.tolist()) <= {0.0, *map(float, values)}
        elements = sum(piece.stop - piece.start for piece in layout.pieces(span))
        assert [int((found == v).sum()) for v in values] == [elements] * len(values)
    for made in run_tensors(run, layout.tensors, torch.float32).values():
        assert bool((made == 1).all())


def test_the_components_of_a_span_are_pages_apart():
    layout = LayerLayout(
        layer=layer("any", "block", tensor("a", 5), tensor("b", 3)), span_elements=32
    )
    state = memory(3 * 4096)
    second = layout.pieces(1)[0]
    own = state_piece(*span_state(state, layout, 1, 2), layout, 1, second)
    base = torch.frombuffer(state, dtype=torch.float32).data_ptr()
    assert own.master.data_ptr() == base
    assert [moment.data_ptr() for moment in own.moments] == [base + 4096, base + 8192]
