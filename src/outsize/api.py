"""The verbs: each takes its options and returns its result, as the command line does.

Nothing heavy is imported before a verb has checked what it can check without.
"""

import time

from outsize.results import PlanResult, TrainResult
from outsize.runtime.events import OnEvent
from outsize.store.heap import keep_heap_pages
from outsize.train.launch import launch
from outsize.train.options import TrainOptions


def train(options: TrainOptions, on_event: OnEvent) -> TrainResult:
    """Train or resume; see `TrainOptions`.

    Raises:
        OutsizeError: nothing is lost and nothing is half written.
    """
    start_s = time.monotonic()
    keep_heap_pages()
    with launch(options, on_event) as inputs:
        from outsize.train.run import run_training

        return run_training(inputs, on_event, start_s)


def plan(options: TrainOptions, on_event: OnEvent) -> PlanResult:
    """Plan and predict; loads no weights and leaves nothing on disk.

    Raises:
        OutsizeError: the run would be refused for the same reason.
    """
    keep_heap_pages()
    with launch(options, on_event) as inputs:
        from outsize.train.run import plan_result, plan_run

        return plan_result(inputs, plan_run(inputs, on_event))
