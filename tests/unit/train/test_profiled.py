"""What layers should take on a machine that never ran them."""

from dataclasses import replace

import pytest
from decoders import make_blocks, make_candidate, make_decoder, processor

from outsize.errors import MachineError
from outsize.machines.catalogue import catalogue_machine
from outsize.plan.layout import Layout
from outsize.spec.machine import MachineProfile
from outsize.spec.tensor import DType
from outsize.train.profiled import Profile, expected_profile

MODEL = make_decoder(num_blocks=2)
MACHINE = replace(catalogue_machine("laptop"), host=processor(), name="my-laptop")


def expect(
    machine: MachineProfile = MACHINE, dtype: DType = "bfloat16", layout: Layout | None = None
) -> Profile:
    layout = layout or make_candidate(MODEL).layout
    layout = replace(layout, workload=replace(layout.workload, dtype=dtype))
    return expected_profile(layout, make_blocks(MODEL), machine, machine.host)


def test_a_profile_has_every_layer_with_and_without_its_products() -> None:
    found = expect()
    signatures = {layer.signature for layer in MODEL.layers}
    assert set(found.costs) == {(name, keeps) for name in signatures for keeps in (False, True)}
    assert found.baseline_bytes == MACHINE.baseline_bytes < found.fixed_bytes
    assert found.memory_bytes_per_s == 0.65 * MACHINE.host.elementwise_bytes_per_s
    assert (found.keeps_products, found.measured_at) == (True, None)


def test_a_model_without_blocks_has_no_products_to_keep() -> None:
    model = make_decoder(num_blocks=0)
    found = expected_profile(make_candidate(model).layout, (), MACHINE, MACHINE.host)
    assert not found.keeps_products


def test_a_dtype_that_was_never_measured_is_refused_by_name() -> None:
    with pytest.raises(MachineError) as caught:
        expect(dtype="float32")
    assert str(caught.value) == (
        "The profile of my-laptop has no rates of float32 products for Round One, only of "
        "bfloat16; use --dtype bfloat16, or a profile that `outsize probe` measured."
    )
    assert expect(replace(MACHINE, host=processor(dtypes=("float32",))), "float32").costs
