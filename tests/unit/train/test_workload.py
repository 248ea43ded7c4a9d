"""From options to a workload, and the messages when the numbers do not go together."""

from dataclasses import replace

import pytest
from small_models import make_model

from outsize.errors import UsageError
from outsize.train.options import TrainOptions
from outsize.train.workload import MOST_PASSES, make_workload

MODEL = make_model()


def make_options(**changes: object) -> TrainOptions:
    """Options as a resumed run has them: not checked until they meet the model."""
    return TrainOptions(model="my-model", resume="runs/old", **changes)


def test_the_fields_of_a_workload():
    options = make_options(
        tokens_per_step=512, max_seq_length=64, micro_batch_size=2, dtype="float32"
    )
    (workload,) = make_workload(options, MODEL)
    assert (workload.rows_per_step, workload.micro_batch_rows) == (8, 2)
    assert (workload.seq_length, workload.num_micro_batches) == (64, 4)
    assert (workload.dtype, workload.clip) == ("float32", True)


@pytest.mark.parametrize(("norm", "clip"), [(0.0, False), (0.5, True)])
def test_a_norm_of_zero_does_not_clip(norm, clip):
    assert make_workload(make_options(max_grad_norm=norm), MODEL)[0].clip is clip


@pytest.mark.parametrize(
    ("tokens", "length", "rows"),
    [
        (4096, 1024, 1),
        (4096, 512, 2),
        (4096, 2048, 1),
        (4096, 4096, 1),
        (3072, 256, 4),
        (1792, 256, 1),  # 7 rows: neither 4, 3 nor 2 divides them
        (512, 64, 8),
        (64, 64, 1),
    ],
)
def test_a_micro_batch_has_about_1024_tokens_when_nobody_says(tokens, length, rows):
    options = make_options(tokens_per_step=tokens, max_seq_length=length)
    assert make_workload(options, MODEL)[0].micro_batch_rows == rows


def test_smaller_micro_batches_come_after_the_preferred_one():
    options = make_options(tokens_per_step=1536, max_seq_length=128)
    rows = [workload.micro_batch_rows for workload in make_workload(options, MODEL)]
    assert rows == [6, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("heads", "num_threads", "length", "rows"),
    [
        (9, 2, 1024, 2),  # 5 heads on one of them and 4 on the other
        (9, 2, 512, 2),
        (9, 2, 2048, 2),
        (9, 2, 4096, 1),  # no room for two rows
        (8, 2, 1024, 1),
        (9, 3, 1024, 1),
        (9, 1, 1024, 1),
        (9, 8, 1024, 4),  # 36 heads leave a tenth of 8 threads idle, 72 have no room
        (15, 16, 1024, 1),
        (16, 16, 1024, 1),
        (32, 64, 1024, 2),
        (41, 2, 1024, 1),  # 20 or 21 heads: one thread is idle for less than a twentieth
        (0, 2, 1024, 1),
        (9, None, 1024, 1),
    ],
)
def test_all_threads_share_the_heads_evenly(heads, num_threads, length, rows):
    options = make_options(tokens_per_step=8192, max_seq_length=length)
    model = replace(MODEL, attention_heads=heads)
    found = make_workload(options, model, num_threads)
    assert found[0].micro_batch_rows == rows
    assert found[-1].micro_batch_rows == 1
    asked = replace(options, micro_batch_size=1)
    assert make_workload(asked, model, num_threads)[0].micro_batch_rows == 1


def refusal(options: TrainOptions, max_positions: int | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        make_workload(options, replace(MODEL, max_positions=max_positions))
    return str(caught.value)


def test_rows_longer_than_the_model_allows():
    options = make_options(tokens_per_step=4096, max_seq_length=2048)
    assert refusal(options, 1024) == (
        "--max-seq-length 2048 is longer than the 1024 positions that my-model was made for; "
        "use --max-seq-length 1024 or less."
    )
    assert make_workload(options, replace(MODEL, max_positions=2048))[0].seq_length == 2048


@pytest.mark.parametrize(("tokens", "nearest"), [(1000, 1024), (1100, 1024), (100, 256)])
def test_tokens_that_are_no_whole_rows(tokens, nearest):
    assert refusal(make_options(tokens_per_step=tokens, max_seq_length=256)) == (
        f"--tokens-per-step {tokens} is not a multiple of --max-seq-length 256; "
        f"try --tokens-per-step {nearest}."
    )
    assert make_workload(make_options(tokens_per_step=nearest, max_seq_length=256), MODEL)


def test_a_micro_batch_that_does_not_divide_the_rows():
    options = make_options(tokens_per_step=1024, max_seq_length=256, micro_batch_size=3)
    assert refusal(options) == (
        "--micro-batch-size 3 does not divide the 4 rows of a step (1024 tokens of 256 a row)."
    )


DEEP = make_model(num_blocks=30)
"""32 layers: 128 micro-batches make the most passes that a step may have."""


@pytest.mark.parametrize(
    ("tokens", "length", "rows"),
    [
        (2**17, 1024, [1]),  # 128 rows: one each
        (2**17, 256, [4]),
        (2**18, 1024, [2]),
        (2**20, 1024, [8]),
        (1_024_000_000, 1024, [8000]),  # 125 of a million rows
        (8191 * 1024, 1024, [8191]),  # a prime
        (2**15, 128, [8, 4, 2]),
    ],
)
def test_many_tokens_make_larger_micro_batches_and_not_ever_more(tokens, length, rows):
    options = make_options(tokens_per_step=tokens, max_seq_length=length)
    found = make_workload(options, DEEP)
    assert [workload.micro_batch_rows for workload in found] == rows
    assert all(workload.num_micro_batches * 32 <= MOST_PASSES for workload in found)
    least = make_workload(replace(options, objective="memory"), DEEP)
    assert [workload.micro_batch_rows for workload in least] == rows[::-1]


def test_a_micro_batch_that_makes_a_plan_of_minutes_is_refused_with_ways_out():
    options = make_options(tokens_per_step=2**20, max_seq_length=1024, micro_batch_size=1)
    with pytest.raises(UsageError) as caught:
        make_workload(options, DEEP)
    assert str(caught.value) == (
        "--micro-batch-size 1 cuts the 1,024 rows of a step into 1,024 micro-batches; through 32 "
        "layers a step may pass 128 of them. Try --micro-batch-size 8, or --tokens-per-step 131072."
    )
    for changes in ({"micro_batch_size": 8}, {"tokens_per_step": 131072}):
        (workload,) = make_workload(replace(options, **changes), DEEP)
        assert workload.num_micro_batches == 128


def test_a_model_with_more_layers_than_a_plan_takes():
    layers = MODEL.layers[:1] * (MOST_PASSES + 1)
    with pytest.raises(UsageError) as caught:
        make_workload(make_options(), replace(MODEL, layers=layers))
    assert str(caught.value) == (
        "my-model has 4,097 layers, and a plan takes at most 4,096; use a model with fewer."
    )
    (workload,) = make_workload(make_options(), replace(MODEL, layers=layers[1:]))
    assert workload.num_micro_batches == 1
