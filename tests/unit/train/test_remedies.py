"""A refused budget says what is needed and offers only what was planned and fits."""

from dataclasses import replace

import pytest
from decoders import make_candidate, make_decoder

from outsize.errors import BudgetError
from outsize.plan.choose import Candidate, smallest_budget_bytes
from outsize.train import workload
from outsize.train.fit import candidate, make_layouts, measurements_differ_bytes
from outsize.train.options import TrainOptions
from outsize.train.profiled import Profile
from outsize.train.remedies import alternatives, largest_roles, memory_remedy, no_plan

MIB = 2**20
MODEL = make_decoder(num_blocks=2)
COSTS = make_candidate(MODEL).costs


def options(**changes: object) -> TrainOptions:
    settings = {"tokens_per_step": 4096, "max_seq_length": 1024}
    return TrainOptions(model="my-model", data="d", **(settings | changes))


def shape_of(asked: TrainOptions) -> Candidate:
    """The smallest shape of a request, with temporaries that grow with its micro-batch."""
    *_, layout = make_layouts(asked, MODEL)
    return candidate(layout, profile_of(layout.workload.micro_batch_tokens), asked)


def profile_of(tokens: int) -> Profile:
    return Profile(
        costs=COSTS,
        keeps_products=True,
        memory_bytes_per_s=1e10,
        fixed_bytes=300 * MIB + 32 * 2**10 * tokens,
        baseline_bytes=300 * MIB,
    )


def refuse(asked: TrainOptions, budget_bytes: int, floor_bytes: int = 0) -> BudgetError:
    one = shape_of(asked)
    profile = profile_of(one.layout.workload.micro_batch_tokens)
    return no_plan(asked, [(one, profile)], budget_bytes, shape_of, floor_bytes)


def changes(error: BudgetError) -> list[str]:
    return [remedy.change for remedy in error.remedies]


def test_what_is_needed_is_the_smallest_budget_that_has_a_plan() -> None:
    error = refuse(options(), 310 * MIB)
    assert error.needed_bytes == smallest_budget_bytes((shape_of(options()),))
    assert (error.tier, error.budget_bytes) == ("host", 310 * MIB)
    assert "Training my-model with tokens_per_step=4096, max_seq_length=1024" in str(error)
    sizes = {c.role: c.size_bytes for c in error.contributors}
    assert sizes["interpreter and libraries"] == 300 * MIB
    assert sizes["temporaries"] == 32 * MIB
    assert sizes["slack"] > 20 * MIB
    more_bytes = measurements_differ_bytes(profile_of(options().max_seq_length))
    assert error.remedies[0] == memory_remedy(error.needed_bytes, more_bytes)


def test_of_several_shapes_the_smallest_counts() -> None:
    asked = options(max_seq_length=256)
    shapes = [
        (candidate(layout, profile, asked), profile)
        for layout in make_layouts(asked, MODEL)
        for profile in [profile_of(layout.workload.micro_batch_tokens)]
    ]
    assert len(shapes) == 3
    error = no_plan(asked, shapes, 310 * MIB, shape_of)
    assert error.needed_bytes == min(smallest_budget_bytes((one,)) for one, _ in shapes)
    assert error.needed_bytes < smallest_budget_bytes((shapes[0][0],))


@pytest.mark.parametrize("needed_bytes", [1, 8 * MIB, 8 * MIB + 1, 355 * MIB, 2**34])
def test_the_budget_to_ask_for_is_a_little_more(needed_bytes: int) -> None:
    remedy = memory_remedy(needed_bytes)
    asked_bytes = int(remedy.change.removeprefix("--memory ").removesuffix("MiB")) * MIB
    assert needed_bytes + 8 * MIB <= asked_bytes <= needed_bytes + 16 * MIB
    assert remedy.needed_bytes == needed_bytes


def test_what_the_user_fixed_is_left_to_the_planner_first_and_then_rows_are_shorter() -> None:
    fixed = options(activations="keep", micro_batch_size=4)
    found = dict(alternatives(fixed))
    assert list(found) == [
        "--activations auto",
        "--micro-batch-size 1",
        "--max-seq-length 512",
        "--max-seq-length 256",
    ]
    assert found["--activations auto"] == replace(fixed, activations="auto")
    assert found["--micro-batch-size 1"] == replace(fixed, micro_batch_size=1)
    assert found["--max-seq-length 256"].max_seq_length == 256
    free = options(tokens_per_step=64, max_seq_length=64)
    assert [change for change, _ in alternatives(free)] == ["--max-seq-length 32"]
    assert list(alternatives(options(tokens_per_step=48, max_seq_length=48))) == []
    assert list(alternatives(options(micro_batch_size=1, max_seq_length=32))) == []


def test_a_run_that_goes_on_is_offered_nothing_that_it_would_refuse() -> None:
    run = options(activations="keep", micro_batch_size=4, resume="run")
    assert dict(alternatives(run)) == {"--activations auto": replace(run, activations="auto")}
    assert list(alternatives(replace(run, activations="auto"))) == []


def test_only_what_fits_is_offered_and_of_shorter_rows_the_longest() -> None:
    half, quarter = (
        smallest_budget_bytes((shape_of(options(max_seq_length=n)),)) for n in (512, 256)
    )
    assert quarter < half < smallest_budget_bytes((shape_of(options()),))
    assert changes(refuse(options(), half))[1:] == ["--max-seq-length 512"]
    assert changes(refuse(options(), half - 2 * MIB))[1:] == ["--max-seq-length 256"]
    assert changes(refuse(options(), quarter - 2 * MIB))[1:] == []
    for budget_bytes in (half, half - 2 * MIB):
        assert all(
            r.needed_bytes <= budget_bytes for r in refuse(options(), budget_bytes).remedies[1:]
        )


def test_blocks_that_may_compute_again_need_less() -> None:
    fixed = options(activations="keep")
    free = smallest_budget_bytes((shape_of(options()),))
    assert free < smallest_budget_bytes((shape_of(fixed),))
    assert "--activations auto" in changes(refuse(fixed, free))
    assert "--activations auto" not in changes(refuse(fixed, free - 2 * MIB))


def test_where_the_preparation_alone_needs_more_only_memory_helps() -> None:
    budget_bytes = smallest_budget_bytes((shape_of(options(max_seq_length=512)),))
    error = refuse(options(), budget_bytes, floor_bytes=budget_bytes + 50 * MIB)
    assert error.needed_bytes >= budget_bytes + 50 * MIB
    more_bytes = measurements_differ_bytes(profile_of(options().max_seq_length))
    assert changes(error) == [memory_remedy(error.needed_bytes, more_bytes).change]


def test_a_request_without_hope_is_not_offered() -> None:
    one = shape_of(options())
    profile = profile_of(1024)
    error = no_plan(options(), [(one, profile)], 2**40, lambda asked: None)
    assert len(error.remedies) == 1


def test_more_micro_batches_than_a_plan_takes_are_not_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workload, "MOST_PASSES", 8)  # two micro-batches through four layers
    error = refuse(options(micro_batch_size=4), 2**40)
    assert changes(error)[1:] == ["--max-seq-length 512"]


def test_the_largest_regions_are_named_once_each() -> None:
    layout = shape_of(options()).layout
    found = largest_roles(layout)
    assert len({one.role for one in found}) == 3
    sizes = [one.size_bytes for one in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == max(layout.region_bytes.values())
    assert all(one.role.startswith("largest ") for one in found)


def test_no_larger_budget_is_offered_than_may_be_asked_for() -> None:
    one, profile = shape_of(options()), profile_of(1024)
    for most_bytes, offered in ((None, True), (2**40, True), (311 * MIB, False)):
        error = no_plan(options(), [(one, profile)], 310 * MIB, shape_of, most_bytes=most_bytes)
        assert any(change.startswith("--memory") for change in changes(error)) is offered
