"""Plans of three tiers on random models and arenas, checked by the abstract machine."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import MACHINE, costs, layouts, make_layout
from small_tiers import (
    DEVICE,
    PAGE,
    WITH_DEVICE,
    plan,
    plan_or_refusal,
    some_bytes,
    total_bytes,
)

from outsize.plan.actions import (
    Compute,
    Fetch,
    Release,
    Update,
    Work,
    WriteBack,
    parse_actions,
)
from outsize.plan.device_list import step_work
from outsize.plan.layout import Layout, is_durable
from outsize.plan.residency import DoesNotFitError
from outsize.plan.schedule import train_step, uses
from outsize.plan.search import plan_train_step
from outsize.plan.tiers import TieredStep, estimate_tiers
from outsize.plan.verify import PlanInvalidError, verify_steady
from outsize.spec.machine import Lanes


def check_step(step: TieredStep, layout: Layout) -> None:
    arenas = {"device": step.device_arena_bytes, "host": step.host_arena_bytes}
    work = step_work(layout, step.update_on)
    verify_steady(step.steady, step.resident, layout, arenas, work, step.update_on)


def least_device_bytes(layout: Layout) -> int:
    """What the largest action touches that only a device can do; updates have the host too."""
    return max(
        sum(layout.region_bytes[use.region] for use in uses(layout, action))
        for action in train_step(layout)
        if isinstance(action, Compute)
    )


def bytes_by_route(step: TieredStep, layout: Layout) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for action in step.steady:
        if isinstance(action, Fetch | WriteBack):
            found[action.source, action.target] += layout.region_bytes[action.region]
    return found


@settings(deadline=None, max_examples=40)
@given(layouts(), st.floats(0, 0.6), st.floats(0, 0.8))
def test_every_plan_fits_its_arenas_and_is_verified(layout, device, host):
    device_bytes, host_bytes = some_bytes(layout, device), some_bytes(layout, host)
    step = plan_or_refusal(layout, device_bytes, host_bytes)
    if isinstance(step, DoesNotFitError):
        # The host has to hold whole layers of state where the updates run there.
        assert step.tier == "host"
        assert step.needed_bytes > host_bytes
        return
    assert least_device_bytes(layout) <= step.device_arena_bytes <= device_bytes
    assert step.host_arena_bytes <= host_bytes
    check_step(step, layout)


@settings(deadline=None, max_examples=25)
@given(layouts(), st.floats(0, 0.6), st.floats(0.2, 1))
def test_the_bytes_of_each_lane_are_those_of_the_list(layout, device, host):
    step = plan_or_refusal(layout, some_bytes(layout, device), some_bytes(layout, host))
    if isinstance(step, TieredStep):
        found, predicted = bytes_by_route(step, layout), step.prediction
        assert predicted.bytes_to_device == found["host", "device"]
        assert predicted.bytes_from_device == found["device", "host"]
        assert predicted.bytes_read == found["disk", "host"]
        assert predicted.bytes_written == found["host", "disk"]
        assert found.total() == sum(found[route] for route in _ROUTES)


_ROUTES = (("host", "device"), ("device", "host"), ("disk", "host"), ("host", "disk"))


@settings(deadline=None, max_examples=25)
@given(layouts())
def test_with_all_on_the_device_the_step_is_its_arithmetic_and_needs_no_host(layout):
    room = 2 * total_bytes(layout)
    step = plan(layout, room, 0)
    assert not any(isinstance(action, Fetch | WriteBack) for action in step.steady)
    assert (step.update_on, step.host_arena_bytes) == ("device", 0)
    alone = replace(MACHINE, update_bytes_per_s=DEVICE.update_bytes_per_s)
    two_tiers = plan_train_step(layout, room, alone, costs(layout)).prediction
    assert step.prediction.compute_s == pytest.approx(two_tiers.compute_s)
    assert step.prediction.step_s == pytest.approx(two_tiers.step_s)
    assert step.commit_bytes_written == step.commit_bytes_from_device == layout.state_bytes


def test_less_than_no_room_on_the_host_is_refused_though_all_is_on_the_device():
    layout = make_layout(num_blocks=2)
    with pytest.raises(DoesNotFitError) as caught:
        plan(layout, 2 * total_bytes(layout), -PAGE)
    assert (caught.value.tier, caught.value.needed_bytes) == ("host", 0)


@settings(deadline=None, max_examples=25)
@given(layouts())
def test_a_device_smaller_than_one_action_is_refused(layout):
    with pytest.raises(DoesNotFitError) as caught:
        plan(layout, least_device_bytes(layout) - PAGE, 2 * total_bytes(layout))
    assert caught.value.tier == "device"
    assert caught.value.needed_bytes == least_device_bytes(layout)


def test_a_host_that_is_too_small_is_refused_and_what_it_said_is_enough_or_grows():
    layout = make_layout(num_blocks=4, hidden=96, vocab=200, seq_length=100)
    host_bytes = 0
    for _ in range(20):
        found = plan_or_refusal(layout, some_bytes(layout, 0), host_bytes)
        if isinstance(found, TieredStep):
            break
        assert found.tier == "host"
        assert found.needed_bytes > host_bytes
        host_bytes = found.needed_bytes
    assert isinstance(found, TieredStep)
    assert 0 < found.host_arena_bytes <= host_bytes < total_bytes(layout)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("forward_s", [1e-6, 1e-5])
def test_more_device_memory_is_never_much_slower(tied, forward_s):
    layout = make_layout(num_blocks=4, hidden=96, vocab=200, seq_length=100, tied=tied)
    host_bytes = total_bytes(layout) * 3 // 5
    found = [
        plan(layout, some_bytes(layout, step / 5), host_bytes, forward_s=forward_s)
        for step in range(6)
    ]
    for less, more in pairwise(found):
        assert more.prediction.step_s <= 1.03 * less.prediction.step_s
    assert found[-1].prediction.bytes_to_device == 0 < found[0].prediction.bytes_to_device


def small_request() -> tuple[Layout, int, int]:
    """A model that streams through both arenas."""
    layout = make_layout(num_blocks=4, hidden=96, vocab=200, seq_length=100, span_elements=4096)
    return layout, some_bytes(layout, 0), some_bytes(layout, 0.25)


@pytest.mark.parametrize(
    ("link_bytes_per_s", "host_update_bytes_per_s", "update_on"),
    [(1e9, 1e12, "host"), (1e12, 1e9, "device")],
)
def test_updates_run_where_they_are_faster(link_bytes_per_s, host_update_bytes_per_s, update_on):
    layout, device_bytes, host_bytes = small_request()
    device = replace(
        DEVICE, to_device_bytes_per_s=link_bytes_per_s, from_device_bytes_per_s=link_bytes_per_s
    )
    machine = replace(WITH_DEVICE, update_bytes_per_s=host_update_bytes_per_s, device=device)
    step = plan(layout, device_bytes, host_bytes, machine, 1e-6)
    assert step.update_on == update_on
    assert (step.prediction.host_update_s > 0) == (update_on == "host")
    on_device = {a.region for a in step.steady if isinstance(a, Fetch) and a.target == "device"}
    assert any(map(is_durable, on_device)) == (update_on == "device")


def only(kind: type, work: Sequence[Work]) -> list[Work]:
    return [action for action in work if isinstance(action, kind)]


def test_updates_on_the_host_are_the_same_work_a_layer_earlier():
    layout = small_request()[0]
    usual, ahead = step_work(layout, "device"), step_work(layout, "host")
    assert usual == train_step(layout)
    assert sorted(map(repr, usual)) == sorted(map(repr, ahead))
    for kind in (Compute, Update):
        assert only(kind, usual) == only(kind, ahead)
    last = max(a.layer for a in ahead)
    for layer in range(2, last + 1):
        done = ahead.index(Update(layer, layout.layers[layer].num_spans - 1, "optimizer"))
        assert done < ahead.index(Compute(layer - 1, "forward", 0))


def test_state_that_no_step_writes_is_left_to_the_commit():
    layout, device_bytes, host_bytes = small_request()
    step = plan(layout, device_bytes, host_bytes)
    written = {a.region for a in step.steady if isinstance(a, WriteBack) and a.target == "disk"}
    kept = [r for r in layout.region_bytes if is_durable(r) and r not in written]
    assert step.commit_bytes_written == sum(layout.region_bytes[r] for r in kept)
    assert 0 < step.commit_bytes_written < layout.state_bytes
    assert 0 <= step.commit_bytes_from_device <= step.commit_bytes_written


def test_the_text_holds_both_lists():
    layout, device_bytes, host_bytes = small_request()
    step = plan(layout, device_bytes, host_bytes)
    head, rest = step.to_text().split("[resident]\n")
    resident, steady = rest.split("[steady]\n")
    assert head.splitlines() == [
        f"device_arena_bytes {step.device_arena_bytes}",
        f"host_arena_bytes {step.host_arena_bytes}",
        f"update_on {step.update_on}",
    ]
    assert parse_actions(resident) == step.resident
    assert parse_actions(steady) == step.steady


def test_an_estimate_is_a_plan_without_gaps():
    layout, device_bytes, host_bytes = small_request()
    request = {"machine": WITH_DEVICE, "costs": costs(layout)}
    ample = total_bytes(layout) * 2
    estimate = estimate_tiers(layout, device_bytes=ample, host_bytes=0, **request)
    assert estimate == plan(layout, ample, 0).prediction
    estimate = estimate_tiers(layout, device_bytes=device_bytes, host_bytes=host_bytes, **request)
    planned = plan(layout, device_bytes, host_bytes).prediction
    assert 0.5 * planned.step_s < estimate.step_s < 1.1 * planned.step_s
    with pytest.raises(DoesNotFitError, match="bytes are needed"):
        estimate_tiers(layout, device_bytes=PAGE, host_bytes=host_bytes, **request)


def one_sided(update_on: str) -> Lanes:
    """A machine where updates on the other side take forever."""
    if update_on == "device":
        return replace(WITH_DEVICE, update_bytes_per_s=1e7)
    return replace(
        WITH_DEVICE, update_bytes_per_s=1e12, device=replace(DEVICE, to_device_bytes_per_s=1e8)
    )


@pytest.mark.parametrize("update_on", ["device", "host"])
@pytest.mark.parametrize("kind", [Fetch, WriteBack, Release, Compute, Update])
def test_no_action_of_a_step_can_be_left_out(kind, update_on):
    layout, device_bytes, host_bytes = small_request()
    step = plan(layout, device_bytes, host_bytes, one_sided(update_on))
    assert step.update_on == update_on
    accepted, count = [], 0
    for index, action in enumerate(step.steady):
        if isinstance(action, kind):
            count += 1
            rest = step.steady[:index] + step.steady[index + 1 :]
            try:
                check_step(replace(step, steady=rest), layout)
            except PlanInvalidError:
                continue
            accepted.append(action)
    assert count
    assert accepted == []
