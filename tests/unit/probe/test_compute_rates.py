from dataclasses import replace
from typing import Any

import pytest
import torch
from paced_store import FakeClock
from tiny_sizes import HOST

from outsize.machines.records import from_json, to_json
from outsize.probe import compute
from outsize.probe.attention import attention_rates
from outsize.probe.compute import Bench, matmul_rates, memory_rate, small_numbers
from outsize.probe.elementwise import elementwise_rate, rms_norm
from outsize.probe.host import measure_attention, measure_products
from outsize.probe.stopwatch import Stopwatch
from outsize.spec.machine import AttentionRate, MatmulRate


class _TimedCalls(Stopwatch):
    """A clock that lets each call take what the test says."""

    def __init__(self, seconds: float) -> None:
        self._fake = FakeClock()
        super().__init__(clock=self._fake)
        self._each_s = seconds
        self.num_calls = 0

    def seconds(self, work: Any, num_calls: int = 1) -> float:
        for _ in range(num_calls):
            work()
            self.num_calls += 1
            self._fake.pause(self._each_s)
        return self._each_s


def _bench(watch: Stopwatch, **changes: Any) -> Bench:
    sizes = replace(HOST, **changes)
    return Bench(sizes=sizes, device=torch.device("cpu"), watch=watch, num_threads=2)


def test_products_count_two_operations_for_each_weight_and_row() -> None:
    rates = matmul_rates(_bench(_TimedCalls(0.1)))
    assert [(r.dtype, r.inner, r.columns, r.rows) for r in rates] == [
        ("bfloat16", 32, 64, 1),
        ("bfloat16", 32, 64, 8),
        ("float32", 32, 64, 1),
        ("float32", 32, 64, 8),
        ("bfloat16", 64, 32, 1),
        ("bfloat16", 64, 32, 8),
        ("float32", 64, 32, 1),
        ("float32", 64, 32, 8),
    ]
    assert [r.flops_per_s for r in rates[:2]] == [2 * 32 * 64 / 0.1, 2 * 8 * 32 * 64 / 0.1]


def test_products_are_linear_layers_and_take_turns_with_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def linear(tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        seen.append(weight.data_ptr())
        assert tuple(weight.shape) == (64, 32)
        return torch.nn.functional.linear(tokens, weight)

    monkeypatch.setattr(compute, "linear", linear)
    bench = _bench(_TimedCalls(0.1), matmul_shapes=HOST.matmul_shapes[:1], dtypes=("float32",))
    matmul_rates(bench)
    assert seen[0] != seen[1]
    assert seen[:2] == seen[2:]  # from the first one again with more rows


def test_sizes_that_are_too_long_are_left_out() -> None:
    rates = matmul_rates(_bench(_TimedCalls(0.5), longest_call_s=3.9))
    assert {r.rows for r in rates} == {1}  # 8 rows would take 4 s
    rates = attention_rates(_bench(_TimedCalls(0.5), longest_call_s=0.9))
    assert {r.seq_length for r in rates} == {16}  # 32 positions would take 1 s


def test_sizes_that_are_too_large_are_left_out() -> None:
    bench = _bench(_TimedCalls(0.1), rows=(1, 10**9), working_bytes=2**14)
    assert {r.rows for r in matmul_rates(bench)} == {1}
    bench = _bench(_TimedCalls(0.1), seq_lengths=(16, 10**6), working_bytes=2**14)
    assert {r.seq_length for r in attention_rates(bench)} == {16}


def test_a_phase_ends_in_time_and_has_something() -> None:
    assert len(matmul_rates(_bench(_TimedCalls(1.0), phase_s=1e-9))) == 1
    assert len(attention_rates(_bench(_TimedCalls(1.0), phase_s=1e-9))) == 1


def test_attention_counts_half_a_square_forward_and_five_halves_of_that_backward() -> None:
    rate = attention_rates(_bench(_TimedCalls(0.5), seq_lengths=(16,)))[0]
    heads = 8192 // 16
    fitting = 2**20 // (8 * 16 * 16 * 2)
    flops = 2 * 16**2 * 16 * min(heads, fitting)
    assert (rate.dtype, rate.seq_length, rate.head_size) == ("bfloat16", 16, 16)
    assert rate.forward_flops_per_s == flops / 0.5
    assert rate.backward_flops_per_s == 2.5 * flops / 0.5


def test_elementwise_bytes_are_counted_operation_by_operation() -> None:
    bench = _bench(_TimedCalls(1.0), hidden_size=32, intermediate_size=64, tokens=8)
    per_s = elementwise_rate(bench)
    hidden, gate = 8 * 32, 8 * 64
    # Forward: six bytes to convert, eight to square, four to average, ...
    norm_forward = hidden * (6 + 8 + 4 + 8 + 6 + 4)
    gated_forward = gate * (4 + 6)
    assert norm_forward + gated_forward < per_s < 6 * (norm_forward + gated_forward)
    assert elementwise_rate(_bench(_TimedCalls(2.0), tokens=8)) == per_s / 2


def test_the_norm_is_the_one_of_transformers() -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    module = LlamaRMSNorm(32, eps=1e-6).to(torch.bfloat16)
    hidden = small_numbers(_bench(Stopwatch()), "bfloat16", 8, 32)
    assert torch.equal(rms_norm(hidden, module.weight), module(hidden))


def test_one_pass_over_memory_counts_what_it_touches() -> None:
    assert memory_rate(_bench(_TimedCalls(0.5))) == 2**16 / 0.5


def test_a_product_with_more_rows_takes_fewer_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    products = compute._products

    def spy(tokens: torch.Tensor, weights: list[torch.Tensor]) -> Any:
        made.append(len(weights))
        return products(tokens, weights)

    monkeypatch.setattr(compute, "_products", spy)
    shapes, weight_bytes = HOST.matmul_shapes[:1], 32 * 64 * 2
    room = 4 * weight_bytes
    matmul_rates(
        _bench(_TimedCalls(0.1), matmul_shapes=shapes, dtypes=("bfloat16",), working_bytes=room)
    )
    assert made == [3, 3]
    matmul_rates(
        _bench(
            _TimedCalls(0.001),
            matmul_shapes=shapes,
            dtypes=("bfloat16",),
            rows=(1, 64),
            working_bytes=room,
        )
    )
    assert made[2:] == [3, 1]


def test_numbers_are_neither_zeros_nor_noise() -> None:
    made = small_numbers(_bench(Stopwatch()), "float32", 3, 500_000)
    assert made.shape == (3, 500_000)
    assert made.abs().max() <= 0.02
    assert made.std() > 0.005


def test_the_parts_of_a_host_answer_in_json() -> None:
    threads = torch.get_num_threads()
    products = measure_products(to_json(HOST), threads)
    assert products["memory_bytes_per_s"] > 0
    assert products["elementwise_bytes_per_s"] > 0
    assert len([from_json(MatmulRate, rate) for rate in products["matmul"]]) == 8
    attention = measure_attention(to_json(HOST), None)
    assert len([from_json(AttentionRate, rate) for rate in attention["attention"]]) == 4
    assert torch.get_num_threads() == threads
