"""Evaluation loss: the forward of all evaluation rows on an empty arena, as one more list of
actions.
"""

from collections.abc import Iterator, Sequence

import torch

from outsize.models.layered import Batch
from outsize.plan.actions import Action
from outsize.plan.search import plan_evaluation
from outsize.runtime.executor import Executor
from outsize.runtime.slots import Slots
from outsize.store.arena import HostArena
from outsize.store.store import Store
from outsize.train.data.rows import PackedRows
from outsize.train.session import Session
from outsize.train.step_data import StepResults
from outsize.train.trainer import read_batch, step_inputs


class Evaluator:
    """Computes the mean loss per token of a set of rows.

    Args:
        session: model and plan; the arena of its plan is used while nothing else is in it.
        rows: the evaluation rows.
    """

    def __init__(self, session: Session, rows: PackedRows) -> None:
        self._session = session
        self._rows = rows
        self.actions: Sequence[Action] = plan_evaluation(
            session.layout, session.planned.plan.arena_bytes
        )

    def run(self, arena: HostArena, store: Store, slots: Slots) -> float:
        """Return the loss.

        Raises:
            StorageError: the disk failed.
        """
        kernels = self._session.kernels
        executor = Executor(
            layout=self._session.layout,
            arena=arena,
            store=store,
            slots=slots,
            kernels=kernels,
            on_commit=_never,
        )
        total, num_tokens = 0.0, 0
        for batches in self._steps():
            kernels.inputs = step_inputs(self._session, batches)
            kernels.results = StepResults()
            executor.run(self.actions)
            del kernels.inputs  # so that there are never those of two steps
            total += sum(kernels.results.losses)
            num_tokens += sum(int((batch.labels != -100).sum()) for batch in batches)
        return total / max(1, num_tokens)

    @property
    def num_rows(self) -> int:
        """Rows of one evaluation."""
        return self._rows.num_rows

    def _steps(self) -> Iterator[list[Batch]]:
        """Rows in order, a train step's worth at a time; the last ones are filled up with rows that
        carry no loss.
        """
        workload = self._session.layout.workload
        for first in range(0, self._rows.num_rows, workload.rows_per_step):
            micro_batches = []
            for start in range(first, first + workload.rows_per_step, workload.micro_batch_rows):
                indices = range(start, start + workload.micro_batch_rows)
                micro_batches.append(self._batch(indices))
            yield micro_batches

    def _batch(self, indices: range) -> Batch:
        last = self._rows.num_rows - 1
        batch = read_batch(self._rows, [min(i, last) for i in indices])
        beyond = torch.tensor([i > last for i in indices])
        batch.labels[beyond] = -100
        return batch


def _never() -> None:
    raise AssertionError("an evaluation has no commit")
