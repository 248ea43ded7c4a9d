from dataclasses import replace

import pytest

from outsize.machines import entries, rates
from outsize.spec.machine import Processor

_HOSTS = {name: rates.host_processor(h, 2**34) for name, h in entries.hosts().items()}
_DEVICES = {name: rates.device_processor(d) for name, d in entries.accelerators().items()}
_ALL = {**_HOSTS, **_DEVICES}


def _products(processor: Processor) -> dict[tuple[str, int, int], list[float]]:
    found: dict[tuple[str, int, int], list[float]] = {}
    for rate in sorted(processor.matmul, key=lambda rate: rate.rows):
        key = (rate.dtype, rate.inner, rate.columns)
        found.setdefault(key, []).append(rate.flops_per_s)
    return found


@pytest.mark.parametrize("processor", _ALL.values(), ids=list(_ALL))
def test_products_are_faster_with_more_rows_and_bounded_by_memory(processor: Processor) -> None:
    found = _products(processor)
    assert len(found) == 2 * len(rates.MATMUL_SIZES)
    for (dtype, _, _), series in found.items():
        assert len(series) == len(rates.MATMUL_ROWS)
        assert series == sorted(series)
        assert series[0] > 0
        element_bytes = {"float32": 4, "bfloat16": 2}[dtype]
        assert series[0] < 2 * processor.memory_bytes_per_s / element_bytes


@pytest.mark.parametrize("processor", _ALL.values(), ids=list(_ALL))
def test_attention_is_slower_than_products_and_rises_with_the_length(
    processor: Processor,
) -> None:
    rising = sorted(processor.attention, key=lambda rate: rate.seq_length)
    for dtype in ("float32", "bfloat16"):
        forward = [rate.forward_flops_per_s for rate in rising if rate.dtype == dtype]
        assert forward == sorted(forward)
        assert len(forward) == 8
    for rate in processor.attention:
        largest = max(r.flops_per_s for r in processor.matmul if r.dtype == rate.dtype)
        assert 0 < rate.forward_flops_per_s < largest
        assert 0 < rate.backward_flops_per_s < largest


@pytest.mark.parametrize("processor", _ALL.values(), ids=list(_ALL))
def test_elementwise_operations_do_not_outrun_memory(processor: Processor) -> None:
    assert 0 < processor.elementwise_bytes_per_s < processor.memory_bytes_per_s


def test_a_measured_rate_goes_before_a_fraction_of_the_peak() -> None:
    entry = entries.accelerators()["RTX-4090"]
    measured = rates.device_processor(entry)
    assumed = rates.device_processor(replace(entry, measured_memory_bytes_per_s=None))
    assert measured.memory_bytes_per_s == 912e9
    assert assumed.memory_bytes_per_s == pytest.approx(0.8 * 1008e9)


def test_a_product_takes_its_arithmetic_and_its_bytes() -> None:
    # 2 x 4 x 8 x 16 operations at 1e3 a second; 2 x (8 x 16 + 4 x 8 + 4 x 16) bytes at 1e2
    rate = rates.product_rate(1e3, 1e2, "bfloat16", 4, 8, 16)
    assert rate == pytest.approx(1024 / (1.024 + 4.48))


def test_the_rule_is_near_what_zen_5_measures() -> None:
    """GFLOP/s of bfloat16 products of 2048 x 2048 on two cores whose memory gives 54e9 B/s."""
    measured = {16: 417, 64: 709, 256: 905, 1024: 914, 4096: 927}
    for rows, value in measured.items():
        predicted = rates.product_rate(927e9, 54e9, "bfloat16", rows, 2048, 2048) / 1e9
        assert predicted == pytest.approx(value, rel=0.12)
    assert rates.product_rate(927e9, 54e9, "bfloat16", 1, 2048, 2048) < 1.7 * 31e9


def test_a_host_without_bf16_units_is_slow_in_it() -> None:
    for name in ("Core-i7-1360P", "Raspberry-Pi-5"):
        found = _products(_HOSTS[name])
        assert found["bfloat16", 4096, 4096][-1] < 0.1 * found["float32", 4096, 4096][-1]


def test_a_process_does_not_get_all_of_the_main_memory() -> None:
    assert _HOSTS["Grace"].memory_bytes == int(0.9 * 2**34)
    assert _DEVICES["T4"].memory_bytes == 15360 * 2**20
