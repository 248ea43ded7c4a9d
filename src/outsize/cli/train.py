"""`outsize train`: train inside the budget; with `--dry-run` only plan it."""

from outsize.cli.train_groups import TRAIN_GROUPS
from outsize.cli.verb import Outcome, Verb
from outsize.train.options import TrainOptions


def run(options: TrainOptions) -> Outcome:
    """Train, or do all that comes before when `dry_run` is set."""
    from outsize import api
    from outsize.report.tables import show_train
    from outsize.report.terminal import TerminalReporter

    if options.dry_run:
        with TerminalReporter() as reporter:
            return Outcome(json=api.dry_run(options, reporter.on_event).to_json())
    with TerminalReporter() as reporter:
        result = api.train(options, reporter.on_event)
    show_train(reporter.console, result, reporter.losses)
    return Outcome(json=result.to_json(), exit_code=130 if result.interrupted else 0)


VERB = Verb(
    name="train",
    summary="train or fine-tune a model inside a memory budget",
    record=TrainOptions,
    positional="model",
    groups=TRAIN_GROUPS,
    trainer_names=True,
    example="outsize train smollm2-135m --data my.jsonl --memory 1GiB --steps 100",
    run=run,
)
