"""`outsize plan train`: say what a training run would take and do, and load no weights."""

from outsize.cli.train_groups import TRAIN_GROUPS
from outsize.cli.verb import Outcome, Verb
from outsize.train.options import TrainOptions


def plan_training(options: TrainOptions) -> Outcome:
    """Plan the run and show its prediction."""
    from outsize import api
    from outsize.report.tables import show_plan
    from outsize.report.terminal import TerminalReporter

    with TerminalReporter() as reporter:
        result = api.plan(options, reporter.on_event)
    show_plan(reporter.console, result)
    return Outcome(json=result.to_json())


VERB = Verb(
    name="plan train",
    summary="predict memory, time and bytes of a training run, load no weights",
    record=TrainOptions,
    positional="model",
    groups=TRAIN_GROUPS,
    fixed=(("dry_run", True),),
    trainer_names=True,
    example="outsize plan train smollm2-135m --data my.jsonl --memory 1GiB",
    run=plan_training,
)
