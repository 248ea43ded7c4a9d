"""The training loop: one list of actions after another, with the few decisions that lie between
steps.

Between two steps the loop only chooses which of the plan's lists comes next (`first` after a start,
an evaluation or a resume, `commit` when a commit is due, else `steady`), and tells the kernels
learning rate and clipping factor.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch

from outsize.errors import StorageError
from outsize.models.layered import Batch
from outsize.plan.actions import Action, WriteBack
from outsize.plan.layout import is_durable
from outsize.runtime.events import Committed, Evaluated, OnEvent, StepFinished, StepUnderWay
from outsize.runtime.executor import Executor
from outsize.runtime.slots import Slots
from outsize.store.arena import HostArena
from outsize.store.budget import ResidentBytes
from outsize.store.heap import trim_heap
from outsize.store.journal import Journal
from outsize.store.store import Store
from outsize.train.data.rows import PackedRows
from outsize.train.data.sampler import StepSampler
from outsize.train.learning_rate import learning_rate
from outsize.train.options import TrainOptions
from outsize.train.progress import watched
from outsize.train.session import Session
from outsize.train.step_data import PendingUpdate, StepInputs, StepResults, TrainLog


class Trainer:
    """Runs the steps of a session.

    Args:
        session: model, layout and plan.
        options: of the run.
        rows: the training data.
        num_steps: steps of the whole run.
        done_steps: steps whose update is committed already.
        arena: of the plan's size.
        store: the state file.
        slots: where the state lies in it.
        journal: receives commits.
        on_event: is told every step and commit.
        on_step: receives the metrics of each step.
        evaluate: computes the evaluation loss on an empty arena; None when there is no such data.
        should_stop: asked after each step.
    """

    def __init__(
        self,
        *,
        session: Session,
        options: TrainOptions,
        rows: PackedRows,
        num_steps: int,
        done_steps: int,
        arena: HostArena,
        store: Store,
        slots: Slots,
        journal: Journal,
        on_event: OnEvent,
        on_step: Callable[[dict[str, object]], None],
        evaluate: Callable[[], float] | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self._session = session
        self._options = options
        self._rows = rows
        self._num_steps = num_steps
        self._done_steps = done_steps
        self._store = store
        self._slots = slots
        self._journal = journal
        self._on_event = on_event
        self._on_step = on_step
        self._evaluate = evaluate
        self._should_stop = should_stop
        self._kernels = session.kernels
        self._plan = session.planned.plan
        workload = session.layout.workload
        self._sampler = StepSampler(rows.num_rows, workload.rows_per_step, options.seed)
        self._executor = Executor(
            layout=session.layout,
            arena=arena,
            store=store,
            slots=slots,
            kernels=self._kernels,
            on_commit=self._commit,
        )
        self._resident = ResidentBytes()
        self._trim_above_bytes = session.trim_above_bytes
        self._committed_s = time.monotonic()
        self.is_whole = True
        self.log = TrainLog()

    def run(self) -> TrainLog:
        """Train until the last step, or until asked to stop; everything done is then committed.

        Raises:
            StorageError: the disk failed or is full; the last commit is whole, unless the state is
                kept in place.
        """
        step, fresh = self._done_steps, True
        while step < self._num_steps and not self.log.interrupted:
            if fresh:
                self._executor.run(self._plan.prologue)
            self._step(step, self._next_list(fresh))
            fresh = False
            step += 1
            self.log.interrupted = step < self._num_steps and self._should_stop()
            if self._evaluation_due(step) and step < self._num_steps:
                self._pause(step)
                fresh = True
        if not fresh:
            self._run_list(self._plan.flush, step)
        if self._evaluate is not None and not self.log.interrupted:
            self._note_evaluation(step)
        return self.log

    def _next_list(self, fresh: bool) -> tuple[Action, ...]:
        if fresh:
            return self._plan.first
        waited_s = time.monotonic() - self._committed_s
        due = waited_s + self._typical_step_s() > self._options.commit_seconds
        return self._plan.commit if due or self._plan.commits_every_step else self._plan.steady

    def _step(self, step: int, actions: tuple[Action, ...]) -> None:
        start_s, counters = time.perf_counter(), self._store.counters()
        exposed_s = self._executor.exposed_io_s
        self._kernels.inputs = self._inputs(step)
        self._kernels.results = StepResults()
        observed = watched(
            actions,
            self._session,
            look=self._keep_heap_small,
            tell=lambda part: self._under_way(step + part),
        )
        self._run_list(actions, step, observed)
        del self._kernels.inputs  # so that there are never those of two steps
        loss = sum(self._kernels.results.losses)
        rate = learning_rate(self._options, step, self._num_steps)
        norm, factor = None, None
        if self._session.layout.workload.clip:
            norm, factor = self._kernels.clip(self._options.max_grad_norm)
        self._kernels.pending = PendingUpdate(step=step + 1, learning_rate=rate, factor=factor)
        after = self._store.counters()
        self.log.losses.append(loss)
        self.log.step_s.append(time.perf_counter() - start_s)
        self.log.exposed_io_s += self._executor.exposed_io_s - exposed_s
        read = after.bytes_read - counters.bytes_read
        written = after.bytes_written - counters.bytes_written
        self._tell(step + 1, loss, norm, rate, read, written)

    def _keep_heap_small(self) -> None:
        """Give free pages back before an action where gaps have grown; looked at less often, the
        gaps of some large actions together once passed the slack.
        """
        if self._resident.read() > self._trim_above_bytes:
            trim_heap()

    def _under_way(self, done_steps: float) -> None:
        self._on_event(
            StepUnderWay(
                done_steps=done_steps,
                num_steps=self._num_steps,
                remaining_s=(self._num_steps - done_steps) * self._typical_step_s(),
            )
        )

    def _tell(
        self,
        step: int,
        loss: float,
        norm: torch.Tensor | None,
        rate: float,
        bytes_read: int,
        bytes_written: int,
    ) -> None:
        event = StepFinished(
            step=step,
            num_steps=self._num_steps,
            loss=loss,
            gradient_norm=None if norm is None else norm.item(),
            learning_rate=rate,
            num_tokens=self._session.layout.workload.tokens_per_step,
            step_s=self.log.step_s[-1],
            predicted_step_s=self._session.prediction.step_s,
            remaining_s=(self._num_steps - step) * self._typical_step_s(),
            host_bytes=self._resident.read(),
            budget_bytes=self._session.budget_bytes,
            bytes_read=bytes_read,
            bytes_written=bytes_written,
        )
        record = {
            "step": step,
            "loss": loss,
            "grad_norm": event.gradient_norm,
            "learning_rate": rate,
            "step_s": event.step_s,
            "bytes_read": bytes_read,
            "bytes_written": bytes_written,
            "host_bytes": event.host_bytes,
        }
        try:
            self._on_step(record)
        except StorageError:  # the step itself is done: what it found is not lost with its record
            self._run_list(self._plan.flush, step)
            raise
        self._on_event(event)

    def _typical_step_s(self) -> float:
        """Median of the steps after the first one, which is slower; the prediction before there are
        any.
        """
        times = self.log.step_s[1:] or self.log.step_s
        return statistics.median(times) if times else self._session.prediction.step_s

    def _inputs(self, step: int) -> StepInputs:
        workload = self._session.layout.workload
        rows = self._sampler.rows(step)
        size = workload.micro_batch_rows
        batches = [read_batch(self._rows, rows[i : i + size]) for i in range(0, len(rows), size)]
        dropout = f"dropout/{self._options.seed}/{step}"
        return replace(step_inputs(self._session, batches), dropout=dropout)

    def _evaluation_due(self, step: int) -> bool:
        every = self._options.evaluation_steps
        return self._evaluate is not None and every is not None and step % every == 0

    def _pause(self, step: int) -> None:
        self._run_list(self._plan.flush, step)
        self._note_evaluation(step)

    def _note_evaluation(self, step: int) -> None:
        assert self._evaluate is not None
        loss = self.log.evaluation_loss = self._evaluate()
        self.log.num_evaluations += 1
        self._on_step({"step": step, "evaluation_loss": loss})
        self._on_event(Evaluated(step=step, loss=loss))

    def _run_list(
        self, actions: Sequence[Action], step: int, observed: Iterable[Action] | None = None
    ) -> None:
        """Run a list. Where there is one copy of the state and the list changes it on disk, the
        journal says from then on, until the next commit, that it is not whole.
        """
        in_place = self._session.layout.state_copies == 1
        if in_place and self.is_whole and any(map(_changes_state, actions)):
            self._journal.append({"step": step, "whole": False})
            self.is_whole = False
        self._executor.run(actions if observed is None else observed)

    def _commit(self) -> None:
        commit_state(self._store, self._slots, self._journal, self._kernels.pending.step)
        self._committed_s, self.is_whole = time.monotonic(), True
        self._on_event(Committed(step=self._kernels.pending.step))


def _changes_state(action: Action) -> bool:
    return isinstance(action, WriteBack) and is_durable(action.region)


def commit_state(store: Store, slots: Slots, journal: Journal, step: int) -> None:
    """Make everything written so far durable as the state after `step` updates.

    Guarantees: when this is cut short at any instant, the commit before it is whole, where there
        are two copies of the state.
    """
    store.sync()
    journal.append({"step": step, **slots.to_record()})
    slots.commit()


def read_batch(rows: PackedRows, indices: list[int]) -> Batch:
    """Read one micro-batch of rows."""
    found = rows.read(indices)
    return Batch(
        input_ids=torch.from_numpy(found.input_ids),
        position_ids=torch.from_numpy(found.position_ids),
        labels=torch.from_numpy(found.labels),
    )


def step_inputs(session: Session, batches: list[Batch]) -> StepInputs:
    """Return the inputs of a step made of `batches`."""
    num_loss_tokens = sum(int((batch.labels != -100).sum()) for batch in batches)
    return StepInputs(
        batches=batches,
        scale=1.0 / max(1, num_loss_tokens),
        rows=torch.unique(torch.cat([batch.input_ids.flatten() for batch in batches])),
        contexts=[session.model.context(batch) for batch in batches],
    )
