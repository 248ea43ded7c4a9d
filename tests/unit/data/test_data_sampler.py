import subprocess
import sys
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from outsize.train.data.sampler import StepSampler, row_order


@given(
    seed=st.integers(-(2**63), 2**64 - 1), epoch=st.integers(0, 10), num_rows=st.integers(1, 200)
)
def test_order_is_a_permutation_and_a_pure_function(seed, epoch, num_rows):
    order = row_order(seed, epoch, num_rows)
    assert sorted(order.tolist()) == list(range(num_rows))
    assert order.tolist() == row_order(seed, epoch, num_rows).tolist()


def test_order_stays_the_same_for_ever():
    assert row_order(42, 0, 8).tolist() == [7, 1, 6, 4, 3, 5, 0, 2]
    assert row_order(42, 1, 8).tolist() == [4, 5, 3, 0, 2, 7, 1, 6]


def test_order_differs_by_seed_and_epoch():
    orders = {tuple(row_order(seed, epoch, 50)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@given(num_rows=st.integers(1, 30), rows_per_step=st.integers(1, 40), seed=st.integers(0, 9))
def test_steps_go_through_one_epoch_after_the_other(num_rows, rows_per_step, seed):
    sampler = StepSampler(num_rows, rows_per_step, seed)
    num_steps = 3 * num_rows
    rows = [row for step in range(num_steps) for row in sampler.rows(step)]
    assert len(rows) == num_steps * rows_per_step
    for epoch in range(len(rows) // num_rows):
        part = rows[epoch * num_rows : (epoch + 1) * num_rows]
        assert part == row_order(seed, epoch, num_rows).tolist()


def test_a_step_is_the_same_whatever_was_asked_before():
    sampler = StepSampler(7, 3, seed=1)
    forward = [sampler.rows(step) for step in range(20)]
    backward = [sampler.rows(step) for step in reversed(range(20))][::-1]
    assert forward == backward
    assert forward[19] == StepSampler(7, 3, seed=1).rows(19)


def test_every_row_comes_up_equally_often():
    sampler = StepSampler(num_rows=10, rows_per_step=4, seed=0)
    counts = Counter(row for step in range(25) for row in sampler.rows(step))
    assert set(counts.values()) == {10}


def test_reading_and_sampling_import_neither_torch_nor_transformers():
    code = (
        "import sys\n"
        "from outsize.train.data import child, prepare, rows, sampler\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'datasets', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
