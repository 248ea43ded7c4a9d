"""From a plan to its description: roles that add up, and totals that are counted by hand."""

import json
from dataclasses import replace

import pytest
from decoders import LANES, cases, make_candidate, make_decoder, range_bytes
from hypothesis import given, settings
from small_models import make_layout

from outsize.machines.catalogue import catalogue_machine
from outsize.plan.actions import Fetch, Update, WriteBack
from outsize.plan.choose import Candidate, Choice, choose
from outsize.plan.outlook import Gain
from outsize.plan.search import PlannedStep
from outsize.plan.simulate import Prediction
from outsize.plan.step_plan import StepPlan
from outsize.plan.whole_run import Pieces, pieces_of_plan
from outsize.results import TierBytes
from outsize.store.store import layout_bytes
from outsize.train.describe import Outline, describe, disk_roles, frontier_point, host_roles
from outsize.train.explain import plan_rows
from outsize.train.fit import candidate
from outsize.train.options import TrainOptions
from outsize.train.plan_result import FrontierPoint, PlanResult
from outsize.train.profiled import Profile
from outsize.train.state_file import all_extents, plan_lists
from outsize.train.totals import Steps

MACHINE = catalogue_machine("laptop")
ONE = make_candidate(make_decoder(num_blocks=3))
LEAST, MOST = range_bytes((ONE,))
PROFILE = Profile(
    costs=ONE.costs,
    keeps_products=True,
    memory_bytes_per_s=1e10,
    fixed_bytes=300 * 2**20,
    baseline_bytes=270 * 2**20,
)


def options(**changes: object) -> TrainOptions:
    return TrainOptions(model="my-model", data="none", **changes)


def outline(choice: Choice, steps: Steps | None = None, **changes: object) -> Outline:
    lists = plan_lists(choice.planned.plan)
    values = {
        "options": options(),
        "machine": MACHINE,
        "profile": PROFILE,
        "choice": choice,
        "budget_bytes": TierBytes(host=2**30, disk=2**36),
        "predicted_host_bytes": choice.host_bytes,
        "disk_bytes": disk_roles(choice.candidate.layout, lists, {"rows": 10**6}),
        "steps": steps,
        "pieces": pieces_of(choice),
    }
    return Outline(**(values | changes))


def pieces_of(choice: Choice) -> Pieces:
    one = choice.candidate
    return pieces_of_plan(choice.planned, one.layout, LANES, one.costs, None, 0)


def profiled_choice(fraction: float = 0.3) -> Choice:
    """A choice whose fixed bytes are those of `PROFILE` with its slack."""
    one = candidate(ONE.layout, PROFILE, options())
    least, most = range_bytes((one,))
    return choose((one,), int(least + fraction * (most - least)), LANES)


@settings(deadline=None, max_examples=4, derandomize=True)
@given(cases())
def test_bytes_on_host_add_up_to_the_predicted_peak(case) -> None:
    profile = replace(PROFILE, costs=case.candidates[0].costs)
    one = candidate(case.candidates[0].layout, profile, options())
    least, most = range_bytes((one,))
    choice = choose((one,), (least + most) // 2, case.machine)
    found = host_roles(outline(choice, profile=profile))
    assert sum(found.values()) == choice.host_bytes
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert all(size > 0 for size in found.values())
    assert found["libraries"] == PROFILE.baseline_bytes
    assert found["temporaries"] == 30 * 2**20
    assert "preparation" not in found


def test_a_preparation_that_takes_more_than_the_steps_is_a_role_of_its_own() -> None:
    choice = profiled_choice()
    found = host_roles(outline(choice, predicted_host_bytes=choice.host_bytes + 12345))
    assert found["preparation"] == 12345
    assert sum(found.values()) == choice.host_bytes + 12345


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_bytes_on_disk_are_two_copies_of_the_state_scratch_and_the_rest(fraction: float) -> None:
    choice = profiled_choice(fraction)
    layout, lists = choice.candidate.layout, plan_lists(choice.planned.plan)
    found = disk_roles(layout, lists, {"rows": 10**6})
    assert found["state, two copies"] == 2 * layout.state_bytes
    assert found["rows"] == 10**6
    scratch = {a.region for actions in lists for a in actions if isinstance(a, WriteBack)}
    sizes = [layout.region_bytes[r] for r in scratch if not r.startswith("state/")]
    assert found["scratch"] == sum(sizes)
    assert (found["scratch"] > 0) is (fraction == 0.0)
    state_file = layout_bytes(all_extents(layout, lists))
    assert found["state, two copies"] + found["scratch"] == state_file
    result = describe(outline(choice))
    assert sum(result.disk_bytes.values()) == result.predicted_peak_bytes.disk


TINY = make_layout(num_blocks=1, vocab=128, span_elements=1024)
SPAN_BYTES = 12288


def tiny_choice(*, commits_every_step: bool = False) -> Choice:
    """A plan whose lists can be counted on one hand; a span of state has 12288 bytes."""
    fetch = Fetch("state/0/0", "disk", "host", 0)
    save = WriteBack("state/0/0", "host", "disk")
    planned = PlannedStep(
        plan=StepPlan(
            arena_bytes=SPAN_BYTES,
            prologue=(fetch,),
            first=(fetch, fetch),
            steady=(fetch, Update(0, 0, "optimizer"), save, save, save),
            commit=(fetch, save, save, save) if commits_every_step else (fetch, *[save] * 5),
            flush=(fetch, save),
        ),
        prediction=Prediction(
            step_s=2.0,
            compute_s=1.5,
            read_s=0.25,
            write_s=0.5,
            exposed_io_s=0.5,
            bytes_read=SPAN_BYTES,
            bytes_written=3 * SPAN_BYTES,
        ),
    )
    one = Candidate(layout=TINY, costs={}, fixed_bytes=0)
    return Choice(candidate=one, planned=planned, budget_bytes=2**30)


def total_of(num_steps: int, commit_seconds: float = 60.0, **plan: bool) -> tuple[int, int]:
    steps = Steps(count=num_steps, known_from="asked for")
    asked = outline(
        tiny_choice(**plan), steps, options=options(commit_seconds=commit_seconds), disk_bytes={}
    )
    total = describe(asked).total
    assert total is not None
    assert (total.steps, total.steps_from) == (num_steps, "asked for")
    assert total.bytes_read % SPAN_BYTES == total.bytes_written % SPAN_BYTES == 0
    state = TINY.state_bytes // SPAN_BYTES
    return total.bytes_read // SPAN_BYTES, total.bytes_written // SPAN_BYTES - state


def test_a_whole_run_is_counted_by_hand() -> None:
    # Prologue 1, first 2, flush 1 are read once; flush writes 1. A steady step reads 1, writes 3.
    assert total_of(1) == (4, 1)
    assert total_of(11) == (4 + 10, 1 + 30)
    # Every 8 s of work, four steps, one of them commits and writes 5.
    assert total_of(11, 8.0) == (14, 1 + 8 * 3 + 2 * 5)
    assert total_of(11, 0.0) == (14, 1 + 10 * 5)
    assert total_of(11, 0.0, commits_every_step=True) == (14, 1 + 10 * 3)


def test_the_seconds_of_a_run_are_those_of_its_parts() -> None:
    choice = tiny_choice()
    steps = Steps(count=11, known_from="asked for")
    total = describe(outline(choice, steps, disk_bytes={})).total
    assert total is not None
    parts = pieces_of(choice)
    expected_s = parts.import_state.seconds + parts.start.seconds + parts.flush.seconds + 10 * 2.0
    assert total.seconds == pytest.approx(expected_s)
    assert parts.import_state.seconds > 0


def test_a_run_of_unknown_length_has_no_total() -> None:
    result = describe(outline(tiny_choice(), disk_bytes={}))
    assert result.total is None
    assert ("whole run", "name --steps, or --data whose size can be told") in plan_rows(result)


def test_wear_is_what_is_written_over_what_the_drive_is_rated_for() -> None:
    steps = Steps(count=11, known_from="asked for")
    for endurance, rated in ((10**9, 10**9), (None, None)):
        disk = replace(MACHINE.disk, endurance_bytes=endurance)
        machine = replace(MACHINE, disk=disk)
        total = describe(outline(tiny_choice(), steps, machine=machine, disk_bytes={})).total
        assert total is not None
        expected = None if rated is None else total.bytes_written / rated
        assert total.wear_fraction == expected


def full_result() -> PlanResult:
    choice = profiled_choice()
    gains = (Gain(change="1 GiB more memory", speedup=1.25), Gain(change="luck", speedup=None))
    steps = Steps(count=20, known_from="about 81,920 tokens of data")
    points = [frontier_point(choice.host_bytes + 5, choice)]
    return describe(outline(choice, steps), gains, points)


def test_the_description_repeats_the_plan() -> None:
    choice, result = profiled_choice(), full_result()
    prediction, workload = choice.planned.prediction, choice.candidate.layout.workload
    assert result.plan == choice.planned.plan.to_text()
    assert result.predicted_peak_bytes.host == choice.host_bytes
    assert (result.predicted_step_s, result.predicted_exposed_io_s) == (
        prediction.step_s,
        prediction.exposed_io_s,
    )
    assert result.predicted_tokens_per_s == workload.tokens_per_step / prediction.step_s
    assert result.micro_batch_size * result.num_micro_batches == workload.rows_per_step
    assert result.limited_by == prediction.limited_by
    (point,) = result.frontier
    assert isinstance(point, FrontierPoint)
    assert (point.host_bytes, point.budget_bytes) == (choice.host_bytes, choice.host_bytes + 5)
    assert point.activations == result.activations


def test_the_json_object_has_every_number_and_not_the_actions() -> None:
    result = full_result()
    body = json.loads(json.dumps(result.to_json()))
    assert body["command"] == "plan"
    assert "plan" not in body
    assert body["total"]["steps"] == 20
    assert body["gains"][1] == {"change": "luck", "speedup": None}
    assert sum(body["host_bytes"].values()) == body["predicted_peak_bytes"]["host"]
    assert set(body["activations"]) == {"kept", "offloaded", "recomputed"}


def test_the_rows_say_what_a_reader_needs() -> None:
    rows = plan_rows(full_result())
    text = {label: words for label, words in rows}  # noqa: C416 -- labels repeat; the last counts
    assert text["machine"] == "laptop; the catalogue"
    assert text["layers"] == "worked out from the machine's rates"
    assert text["whole run"].startswith("20 steps (about 81,920 tokens of data), ")
    more = [words for label, words in rows if label == "  more"]
    assert more == ["1 GiB more memory: +25.0% tokens/s", "luck: does not fit"]
    assert "blocks: " in text["activations"]


def test_a_measured_machine_and_measured_layers_say_when() -> None:
    at = "2026-01-02T03:04:05+00:00"
    found = describe(
        outline(
            profiled_choice(),
            machine=replace(MACHINE, measured_at=at),
            profile=replace(PROFILE, measured_at=at),
        )
    )
    assert found.machine_from == "measured 2026-01-02 03:04 UTC"
    assert found.layers_from == "measured on the layers 2026-01-02 03:04 UTC"
