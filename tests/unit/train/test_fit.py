"""Which shape of a step is taken, and what it is said to cost."""

from dataclasses import replace

import pytest
from small_models import MACHINE, costs, make_layout, make_model

from outsize.plan.choose import Candidate, Choice, choose
from outsize.plan.layout import Layout
from outsize.plan.search import plan_evaluation
from outsize.store.store import layout_bytes
from outsize.train.describe import disk_roles
from outsize.train.fit import (
    candidate,
    fits_on_disk,
    make_layouts,
    slack_bytes,
    span_elements,
)
from outsize.train.options import TrainOptions
from outsize.train.profiled import Profile
from outsize.train.state_file import all_extents, plan_lists

LAYOUT = make_layout(num_blocks=4, seq_length=2048)
MODEL = make_model(num_blocks=4)


def make_options(**changes: object) -> TrainOptions:
    settings = {"data": "none", "tokens_per_step": 512, "max_seq_length": 64}
    return TrainOptions(model="my-model", **(settings | changes))


def make_profile(layout: Layout, *, recompute_s: float = 1e-2, keep_s: float = 1e-3) -> Profile:
    recompute, keep = costs(layout, recompute_s), costs(layout, keep_s)
    return Profile(
        costs={key: (keep if key[1] else recompute)[key] for key in keep},
        keeps_products=True,
        memory_bytes_per_s=1e10,
        fixed_bytes=3 * 2**20,
        baseline_bytes=2**20,
    )


def find(profile: Profile, most_disk_bytes: int = 2**40, **changes: object) -> Choice:
    options = make_options(**changes)
    one = candidate(LAYOUT, profile, options)
    everything = sum(replace(LAYOUT, keeping_blocks=4).region_bytes.values())
    budget_bytes = one.fixed_bytes + everything // 2
    return choose((one,), budget_bytes, MACHINE, accepts=lambda c: file_bytes(c) <= most_disk_bytes)


def file_bytes(choice: Choice) -> int:
    return layout_bytes(all_extents(choice.candidate.layout, plan_lists(choice.planned.plan)))


def test_products_are_kept_where_that_is_faster_and_only_there():
    faster, slower = (make_profile(LAYOUT, keep_s=s) for s in (1e-3, 1e-1))
    assert find(faster).candidate.layout.keeping_blocks == 4
    assert find(slower).candidate.layout.keeping_blocks == 0


def test_what_the_user_fixed_stays_fixed():
    slower = make_profile(LAYOUT, keep_s=1e-1)
    for activations, keeping in (("recompute", 0), ("offload", 4), ("keep", 4)):
        for layout in make_layouts(make_options(activations=activations), MODEL):
            one = candidate(layout, slower, make_options(activations=activations))
            assert (one.layout.keeping_blocks, one.chooses_keeping) == (keeping, False)
            assert one.layout.pins_products is (activations == "keep")


def test_a_small_disk_takes_a_plan_that_has_room():
    profile = make_profile(LAYOUT)
    keeping = file_bytes(find(profile))
    assert find(profile, keeping).candidate.layout.keeping_blocks == 4
    less = find(profile, keeping - 1)
    assert file_bytes(less) < keeping
    assert less.candidate.layout.keeping_blocks < 4


def test_the_journal_and_the_logs_have_to_fit_too():
    """A plan that passes is never refused for its disk afterwards."""
    choice = find(make_profile(LAYOUT))
    lists = plan_lists(choice.planned.plan)
    needed_bytes = sum(disk_roles(choice.candidate.layout, lists, {}).values())
    assert fits_on_disk(needed_bytes)(choice)
    assert not fits_on_disk(needed_bytes - 1)(choice)


def test_what_an_evaluation_takes_to_disk_has_to_fit_too():
    choice = find(make_profile(LAYOUT))
    layout, plan = choice.candidate.layout, choice.planned.plan
    evaluation = plan_evaluation(layout, plan.arena_bytes)
    lists = (*plan_lists(plan), evaluation)
    needed_bytes = sum(disk_roles(layout, lists, {}).values())
    assert fits_on_disk(needed_bytes, evaluates=True)(choice)
    assert not fits_on_disk(needed_bytes - 1, evaluates=True)(choice)


def test_the_slack_grows_with_temporaries_and_with_the_plan():
    profile = make_profile(LAYOUT)
    more = replace(profile, fixed_bytes=profile.fixed_bytes + 100 * 2**20)
    assert slack_bytes(LAYOUT, more) - slack_bytes(LAYOUT, profile) == 40 * 2**20
    long = make_layout(num_blocks=400)
    assert slack_bytes(long, profile) > slack_bytes(LAYOUT, profile) > 20 * 2**20


@pytest.mark.parametrize(("millions", "span"), [(135, 1), (3000, 1), (8000, 4), (70000, 64)])
def test_large_models_have_large_spans(millions, span):
    hidden = 2**12
    model = make_model(num_blocks=0, hidden=hidden, vocab=millions * 2**20 // hidden, norms=False)
    assert span_elements(model) == span * 2**20


def test_micro_batches_and_a_span_that_is_there_already():
    layouts = tuple(make_layouts(make_options(), MODEL, chosen_span=512))
    assert [one.workload.micro_batch_rows for one in layouts] == [8, 4, 2, 1]
    assert {one.span_elements for one in layouts} == {512}
    assert isinstance(candidate(LAYOUT, make_profile(LAYOUT), make_options()), Candidate)


@pytest.mark.parametrize("activations", ["keep", "offload"])
def test_blocks_that_were_only_timed_computing_again_can_be_told_to_keep(activations):
    """Keeping is not timed where it would have exceeded the budget, or where there is nothing to
    keep; what it costs is then no less than computing again.
    """
    whole = make_profile(LAYOUT)
    half = replace(
        whole,
        costs={key: cost for key, cost in whole.costs.items() if not key[1]},
        keeps_products=False,
    )
    options = make_options(activations=activations)
    layout = replace(LAYOUT, keeping_blocks=4, pins_products=activations == "keep")
    one = candidate(layout, half, options)
    budget_bytes = one.fixed_bytes + sum(layout.region_bytes.values())
    prediction = choose((one,), budget_bytes, MACHINE).planned.prediction
    slow = choose((candidate(layout, whole, options),), budget_bytes, MACHINE).planned.prediction
    assert prediction.step_s > slow.step_s
