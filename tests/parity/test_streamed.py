"""Streamed training equals plain PyTorch, bit for bit: masters, moments and losses.

The plain side is `train/verify/plain.py`: the same module whole in memory, autograd, and
`torch.optim.AdamW`.
"""

from pathlib import Path

import pytest
import torch
from harness import (
    MODELS,
    State,
    TinyRun,
    assert_equal_states,
    make_options,
    make_rows,
    make_session,
    make_store,
    model_config,
    train_plain,
)

from outsize.models.registry import build
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.plan import layout
from outsize.train.options import TrainOptions

NUM_STEPS = 4


@pytest.fixture(autouse=True)
def one_thread():
    # The tensors are too small for more, except where a test says so.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stream(
    name: str,
    options: TrainOptions,
    folder: Path,
    *,
    arena: str = "least",
    span_elements: int = 512,
    evaluate: bool = False,
    keeps_products: bool = True,
) -> tuple[list[float], State, TinyRun]:
    model = build(model_config(name), TORCH_DTYPES[options.dtype])
    session = make_session(
        model, options, arena=arena, span_elements=span_elements, keeps_products=keeps_products
    )
    run = TinyRun(
        session=session,
        options=options,
        rows=make_rows(folder / "rows"),
        num_steps=NUM_STEPS,
        folder=folder,
        store=make_store(session, evaluation=evaluate),
        evaluation_rows=make_rows(folder / "evaluation", num_rows=5, seed=2) if evaluate else None,
    )
    log = run.train()
    return log.losses, run.state(), run


def assert_equal_to_plain(name: str, options: TrainOptions, folder: Path, **settings) -> TinyRun:
    losses, state, run = stream(name, options, folder, **settings)
    plain_losses, plain_state = train_plain(name, options, run.rows, NUM_STEPS)
    assert losses == plain_losses
    assert_equal_states(state, plain_state)
    return run


@pytest.mark.parametrize("arena", ["least", "medium", "whole"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in MODELS if "mostly" not in name])
def test_architectures_equal_plain(name: str, dtype: str, arena: str, tmp_path: Path) -> None:
    assert_equal_to_plain(name, make_options(dtype=dtype), tmp_path, arena=arena)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in MODELS if "mostly" not in name])
def test_recomputed_products_equal_plain(name: str, dtype: str, tmp_path: Path) -> None:
    options = make_options(dtype=dtype)
    assert_equal_to_plain(name, options, tmp_path, keeps_products=False)


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.5])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["Llama tied", "Llama"])
def test_clipping_and_accumulation_equal_plain(
    name: str, dtype: str, micro_batch_size: int, max_grad_norm: float, tmp_path: Path
) -> None:
    options = make_options(
        dtype=dtype, micro_batch_size=micro_batch_size, max_grad_norm=max_grad_norm
    )
    assert_equal_to_plain(name, options, tmp_path)


@pytest.mark.parametrize("span_elements", [32, 96, 2048, 2**20])
def test_any_span_size_equals_plain(span_elements: int, tmp_path: Path) -> None:
    options = make_options(dtype="bfloat16")
    assert_equal_to_plain("Llama tied", options, tmp_path, span_elements=span_elements)


@pytest.mark.parametrize("commit_seconds", [0.0, 1e9])
@pytest.mark.parametrize("arena", ["least", "medium", "whole"])
def test_commits_change_nothing(arena: str, commit_seconds: float, tmp_path: Path) -> None:
    options = make_options(dtype="bfloat16", commit_seconds=commit_seconds)
    assert_equal_to_plain("Llama tied", options, tmp_path, arena=arena)


@pytest.mark.parametrize("arena", ["least", "medium", "whole"])
def test_evaluation_changes_nothing(arena: str, tmp_path: Path) -> None:
    options = make_options(dtype="bfloat16", evaluation_fraction=0.1, evaluation_steps=1)
    assert_equal_to_plain("Llama tied", options, tmp_path, arena=arena, evaluate=True)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["linear", "cosine", "constant_with_warmup"])
def test_optimizer_options_equal_plain(kind: str, weight_decay: float, tmp_path: Path) -> None:
    options = make_options(
        weight_decay=weight_decay,
        lr_scheduler_type=kind,
        warmup_steps=2,
        adam_beta1=0.8,
        adam_beta2=0.95,
        adam_epsilon=1e-6,
    )
    assert_equal_to_plain("GPT-2", options, tmp_path)


@pytest.mark.parametrize("arena", ["least", "whole"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("optim", "sgd_momentum", "num_components"),
    [("lion_32bit", 0.0, 2), ("sgd", 0.9, 2), ("sgd", 0.0, 1)],
)
def test_other_optimizers_equal_plain(
    optim: str,
    sgd_momentum: float,
    num_components: int,
    dtype: str,
    weight_decay: float,
    arena: str,
    tmp_path: Path,
) -> None:
    options = make_options(
        optim=optim,
        sgd_momentum=sgd_momentum,
        dtype=dtype,
        weight_decay=weight_decay,
        max_grad_norm=0.0 if arena == "whole" else 0.5,
    )
    run = assert_equal_to_plain("Llama tied", options, tmp_path, arena=arena)
    assert {len(components) for components in run.state().values()} == {num_components}


@pytest.mark.parametrize("name", ["Llama tied", "Llama"])
def test_the_norm_of_a_very_large_tensor_is_taken_in_spans(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "NORM_SPAN_ELEMENTS", 1024)
    assert_equal_to_plain(name, make_options(dtype="bfloat16"), tmp_path)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_model_that_is_mostly_its_table_equals_plain(num_threads: int, tmp_path: Path) -> None:
    # Its largest span of state is most of the arena, so an import can hold only one; and its table
    # is large enough to be shared out among threads.
    torch.set_num_threads(num_threads)
    assert_equal_to_plain(
        "Llama that is mostly table",
        make_options(dtype="bfloat16"),
        tmp_path,
        arena="whole",
        span_elements=2**20,
    )


def test_a_small_arena_moves_bytes_and_a_large_one_does_not(tmp_path: Path) -> None:
    moved = {}
    for arena in ("least", "whole"):
        folder = tmp_path / arena
        folder.mkdir()
        _, _, run = stream("Llama", make_options(), folder, arena=arena)
        moved[arena] = run.session.prediction.bytes_read
    assert moved["whole"] == 0
    assert moved["least"] > 10 * 4096
