"""Which of the plans that fit the memory is taken."""

from dataclasses import replace

from small_models import MACHINE, costs, least_bytes, make_layout

from outsize.plan.layout import Layout
from outsize.plan.search import PlannedStep
from outsize.store.store import layout_bytes
from outsize.train.fit import choose_plan, fit_plans
from outsize.train.profile import Profile
from outsize.train.state_file import all_extents, plan_lists

LAYOUT = make_layout(num_blocks=4, seq_length=2048)


def make_profile(*, recompute_s: float, keep_s: float) -> Profile:
    return Profile(
        costs={False: costs(LAYOUT, recompute_s), True: costs(LAYOUT, keep_s)},
        memory_bytes_per_s=1e10,
        fixed_bytes=0,
        baseline_bytes=0,
    )


def find(profile: Profile, factor: float = 1.5) -> list[tuple[Layout, PlannedStep]]:
    arena_bytes = int(factor * least_bytes(replace(LAYOUT, keeps_products=True)))
    return fit_plans(LAYOUT, arena_bytes, MACHINE, profile)


def file_bytes(one: tuple[Layout, PlannedStep]) -> int:
    return layout_bytes(all_extents(one[0], plan_lists(one[1].plan)))


def kept(one: tuple[Layout, PlannedStep]) -> bool:
    assert one[0].keeps_products == any("products" in r for r in one[0].region_bytes)
    return one[0].keeps_products


def test_products_are_kept_where_that_is_faster_and_only_there():
    faster, slower = (make_profile(recompute_s=1e-2, keep_s=s) for s in (1e-3, 1e-1))
    assert kept(choose_plan(find(faster), 2**40))
    assert not kept(choose_plan(find(slower), 2**40))


def test_a_small_disk_takes_the_plan_that_has_room():
    found = find(make_profile(recompute_s=1e-2, keep_s=1e-3))
    recomputing, keeping = sorted(file_bytes(one) for one in found)
    assert recomputing < keeping
    assert kept(choose_plan(found, keeping))
    assert not kept(choose_plan(found, keeping - 1))
    assert not kept(choose_plan(found, 0))


def test_an_arena_with_no_room_for_products_gets_the_other_plan():
    long = make_layout(num_blocks=4, seq_length=2**16, vocab=3)
    profile = make_profile(recompute_s=1e-2, keep_s=1e-3)
    profile = replace(profile, costs={key: costs(long) for key in (False, True)})
    needed_bytes = least_bytes(replace(long, keeps_products=True))
    assert least_bytes(long) < needed_bytes
    (one,) = fit_plans(long, needed_bytes - 4096, MACHINE, profile)
    assert not kept(one)
