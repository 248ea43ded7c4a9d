"""What is measured of the host's processor, each function in a process of its own.

They are called through `isolate.run_isolated` and answer with JSON; each takes at most its
libraries and `working_bytes` of the sizes. The C library's heap is set up as in training.
"""

from typing import TYPE_CHECKING, Any

from outsize.machines.records import from_json, to_json
from outsize.probe.sizes import ComputeSizes
from outsize.store.budget import resident_bytes
from outsize.store.heap import drop_file_pages, keep_heap_pages, trim_heap

if TYPE_CHECKING:
    from outsize.probe.compute import Bench

_DECODER = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 30,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 128,
}
"""A decoder with as many layers as a usual one; they are there without their weights."""


def measure_baseline() -> dict[str, Any]:
    """Return `baseline_bytes`, resident bytes of a trainer's process before its first layer runs,
    within 2 MiB.

    It imports the libraries and modules that training does and builds a decoder without weights.
    Cost: all of that, about 340 MiB.
    """
    keep_heap_pages()
    import rich.live  # noqa: F401 -- imported for its weight, like the next ones
    import torch
    import xxhash  # noqa: F401
    import yaml  # noqa: F401

    import outsize.formats.hub
    import outsize.plan.search
    import outsize.runtime.executor
    import outsize.store.disk  # noqa: F401
    from outsize.models.registry import build

    model = build(_DECODER, torch.bfloat16)
    drop_file_pages()
    baseline_bytes = resident_bytes()
    assert model.spec.layers
    return {
        "baseline_bytes": baseline_bytes,
        "has_accelerator": torch.cuda.is_available(),
    }


def measure_products(sizes: dict[str, Any], threads: int | None) -> dict[str, Any]:
    """Return the rates of `matmul`, of memory and of elementwise operations."""
    bench = _bench(sizes, threads)
    from outsize.probe.compute import matmul_rates, memory_rate
    from outsize.probe.elementwise import elementwise_rate

    memory_bytes_per_s = memory_rate(bench)
    _slim()
    elementwise_bytes_per_s = elementwise_rate(bench)
    _slim()
    return {
        "memory_bytes_per_s": memory_bytes_per_s,
        "elementwise_bytes_per_s": elementwise_bytes_per_s,
        "matmul": [to_json(rate) for rate in matmul_rates(bench)],
    }


def measure_attention(sizes: dict[str, Any], threads: int | None) -> dict[str, Any]:
    """Return the rates of `attention`."""
    bench = _bench(sizes, threads)
    from outsize.probe.attention import attention_rates

    return {"attention": [to_json(rate) for rate in attention_rates(bench)]}


def start_torch(threads: int | None) -> None:
    """Import PyTorch as the trainer does, with so many compute threads; None takes its default."""
    keep_heap_pages()
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    _slim()


def _bench(sizes: dict[str, Any], threads: int | None) -> "Bench":
    start_torch(threads)
    import torch

    from outsize.probe.compute import Bench
    from outsize.probe.stopwatch import Stopwatch

    return Bench(
        sizes=from_json(ComputeSizes, sizes),
        device=torch.device("cpu"),
        watch=Stopwatch(),
        num_threads=torch.get_num_threads(),
    )


def _slim() -> None:
    """Give back what the part before needed and the next one does not."""
    trim_heap()
    drop_file_pages()
