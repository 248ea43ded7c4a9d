"""What a whole run takes: each of its parts once, times how often the run does it.

A run makes its state and then goes on in stretches of steps. A stretch begins with an empty arena
(`prologue`, `first`), goes on with `steady` or `commit` once a step, and ends with `flush`; between
two stretches the run evaluates. `train/trainer.py` is the loop that does it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from outsize.plan.actions import Action, Fetch
from outsize.plan.build import first_list, flush_list
from outsize.plan.layout import Layout, is_durable
from outsize.plan.schedule import evaluate_step
from outsize.plan.search import PlannedStep
from outsize.plan.simulate import Costs, Prediction, simulate, work_seconds
from outsize.plan.tiers import TieredStep
from outsize.spec.machine import Lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a run.

    Attributes:
        seconds: wall time.
        bytes_read: from disk.
        bytes_written: to disk.
    """

    seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0

    def times(self, count: int) -> "Piece":
        """Return what it takes to do it so often."""
        return Piece(
            seconds=count * self.seconds,
            bytes_read=count * self.bytes_read,
            bytes_written=count * self.bytes_written,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """The parts of a run, each done once.

    Attributes:
        import_state: the state is made from the model's weights.
        start: what is resident is brought in, and the first step of a stretch.
        steady: a step that commits nothing.
        commit: a step that commits.
        flush: the last update of a stretch, its commit, and an empty arena.
        evaluation: the loss of all evaluation rows; None where nothing is evaluated.
        commits_every_step: whether a commit is not one write more than a steady step, so that all
            steps but the first of a stretch commit.
    """

    import_state: Piece
    start: Piece
    steady: Piece
    commit: Piece
    flush: Piece
    evaluation: Piece | None
    commits_every_step: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """How often a run does each of its parts.

    Attributes:
        imports: 1 for a new run, 0 for one that goes on from a commit.
        starts: stretches of steps; each has one start and one flush.
        steady: steps that neither begin a stretch nor commit.
        commits: steps that commit.
        evaluations: evaluations of all rows.
    """

    imports: int
    starts: int
    steady: int
    commits: int
    evaluations: int


def count_turns(
    pieces: Pieces,
    *,
    done_steps: int | None,
    last_step: int,
    evaluation_steps: int | None,
    commit_seconds: float,
) -> Turns:
    """Return how often a run does each of its parts.

    Args:
        pieces: what they take; the predicted clock says when a commit is due.
        done_steps: steps that are committed already; None before there is a state.
        last_step: number of the last step; where it is done already, only the evaluation is left.
        evaluation_steps: steps between two evaluations; None evaluates at the end only.
        commit_seconds: at most about so much work is lost when the run is killed.
    """
    done = done_steps or 0
    every = None if pieces.evaluation is None else evaluation_steps
    pauses = range(0) if every is None else range((done // every + 1) * every, last_step, every)
    ends = pairwise((done, *pauses, last_step))
    lengths = [stop - start for start, stop in ends if stop > start]
    evaluation_s = 0.0 if pieces.evaluation is None else pieces.evaluation.seconds
    commits = sum(
        _num_commits(pieces, length - 1, commit_seconds, evaluation_s if index else 0.0)
        for index, length in enumerate(lengths)
    )
    return Turns(
        imports=int(done_steps is None),
        starts=len(lengths),
        steady=sum(lengths) - len(lengths) - commits,
        commits=commits,
        evaluations=0 if pieces.evaluation is None else len(pauses) + 1,
    )


def _num_commits(pieces: Pieces, num_following: int, commit_seconds: float, waited_s: float) -> int:
    """Return how many of the steps after a stretch's first one commit, when `waited_s` have passed
    since the commit before the stretch.
    """
    if pieces.commits_every_step:
        return num_following
    step_s = pieces.steady.seconds
    steps_between = max(1, int(commit_seconds / step_s))
    steps_before = max(1, int((commit_seconds - waited_s) / step_s))
    if num_following < steps_before:
        return 0
    return 1 + (num_following - steps_before) // steps_between


def whole_run(pieces: Pieces, turns: Turns) -> Piece:
    """Return what all of it takes together."""
    parts = (
        pieces.import_state.times(turns.imports),
        pieces.start.times(turns.starts),
        pieces.steady.times(turns.steady),
        pieces.commit.times(turns.commits),
        pieces.flush.times(turns.starts),
        (pieces.evaluation or Piece()).times(turns.evaluations),
    )
    return Piece(
        seconds=sum(part.seconds for part in parts),
        bytes_read=sum(part.bytes_read for part in parts),
        bytes_written=sum(part.bytes_written for part in parts),
    )


def pieces_of_plan(
    planned: PlannedStep,
    layout: Layout,
    machine: Lanes,
    costs: Costs,
    evaluation: Sequence[Action] | None,
    num_passes: int,
) -> Pieces:
    """Return the parts of a run: bytes are those of its lists, seconds those of their simulation.

    Args:
        planned: the plan.
        layout: its regions.
        machine: rates.
        costs: seconds of each kind of layer.
        evaluation: list of one pass of an evaluation; None where nothing is evaluated.
        num_passes: how often that list runs in one evaluation.
    """
    plan = planned.plan

    def once(actions: Sequence[Action], *, repeats: bool = False) -> Piece:
        return _piece(simulate(actions, layout, machine, costs, repeats=repeats))

    return Pieces(
        import_state=_import(layout, machine),
        start=once((*plan.prologue, *plan.first)),
        steady=_piece(planned.prediction),
        commit=once(plan.commit, repeats=True),
        flush=once(plan.flush),
        evaluation=None if evaluation is None else once(evaluation).times(num_passes),
        commits_every_step=plan.commits_every_step,
    )


def pieces_of_tiers(
    step: TieredStep, layout: Layout, machine: Lanes, costs: Costs, num_passes: int | None
) -> Pieces:
    """Return the parts of a run with a device, of which only the steady step is planned.

    Bytes on disk of start, commit and flush are those of the steady step, with what they read and
    write more or less of the state. Their seconds are about right: copies to and from the device
    are in the order of the steady step, and those of state that only the device holds are missing
    from the flush. An evaluation is its arithmetic or the reading of the state, whichever takes
    longer; activations that it would take to disk and back are missing.

    Args:
        step: the plan.
        layout: its regions.
        machine: rates.
        costs: seconds of each kind of layer on the device.
        num_passes: how often a step's worth of rows is evaluated in one evaluation; None where
            nothing is evaluated.
    """
    prologue = tuple(_state_resident(step))

    def once(actions: Sequence[Action]) -> Piece:
        on = step.update_on
        return _piece(simulate(actions, layout, machine, costs, repeats=False, update_on=on))

    return Pieces(
        import_state=_import(layout, machine),
        start=once((*prologue, *first_list(step.steady))),
        steady=_piece(step.prediction),
        commit=_commit_of_tiers(step, machine),
        flush=once(tuple(flush_list(step.steady, prologue))),
        evaluation=None
        if num_passes is None
        else _evaluation_of_tiers(layout, machine, costs).times(num_passes),
        commits_every_step=step.commit_bytes_written == 0,
    )


def _piece(found: Prediction) -> Piece:
    return Piece(
        seconds=found.step_s, bytes_read=found.bytes_read, bytes_written=found.bytes_written
    )


def _import(layout: Layout, machine: Lanes) -> Piece:
    """State and frozen weights are written once; reading and converting them is beside that."""
    size_bytes = layout.state_bytes + layout.base_bytes
    return Piece(seconds=size_bytes / machine.write_bytes_per_s, bytes_written=size_bytes)


def _state_resident(step: TieredStep) -> Iterator[Action]:
    """Bring in the state that is held when a step begins; what the device holds goes through the
    host.
    """
    rooms = [room for room in step.resident if is_durable(room.region)]
    for region in dict.fromkeys(room.region for room in rooms):
        yield Fetch(region, "disk", "host", 0)
    for room in rooms:
        if room.tier == "device":
            yield Fetch(room.region, "host", "device", room.offset_bytes)


def _commit_of_tiers(step: TieredStep, machine: Lanes) -> Piece:
    """A steady step whose lanes also move the state that no steady step writes."""
    assert machine.device is not None
    steady, device = step.prediction, machine.device
    write_s = step.commit_bytes_written / machine.write_bytes_per_s
    copy_s = step.commit_bytes_from_device / device.from_device_bytes_per_s
    return Piece(
        seconds=max(steady.step_s, steady.write_s + write_s, steady.from_device_s + copy_s),
        bytes_read=steady.bytes_read,
        bytes_written=steady.bytes_written + step.commit_bytes_written,
    )


def _evaluation_of_tiers(layout: Layout, machine: Lanes, costs: Costs) -> Piece:
    work = evaluate_step(layout)
    compute_s = sum(work_seconds(layout, one, machine, costs, "device") for one in work)
    size_bytes = layout.state_bytes + layout.base_bytes
    read_s = size_bytes / machine.read_bytes_per_s
    return Piece(seconds=max(compute_s, read_s), bytes_read=size_bytes)
