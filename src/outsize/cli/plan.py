"""`outsize plan train`: say what a training run would take and do, and load no weights."""

from outsize.cli.train_groups import TRAIN_GROUPS
from outsize.cli.verb import Group, Outcome, Verb
from outsize.train.options import PlanOptions


def run(options: PlanOptions) -> Outcome:
    """Plan the run and show its prediction."""
    from outsize import api
    from outsize.report.frontier import show_frontier
    from outsize.report.terminal import TerminalReporter

    with TerminalReporter() as reporter:
        result = api.plan(options, reporter.on_event)
    show_frontier(reporter.console, result)
    if options.chart is not None:
        reporter.console.print(f"chart    {options.chart}", markup=False, soft_wrap=True)
    return Outcome(json=result.to_json())


VERB = Verb(
    name="plan train",
    summary="predict memory, time and bytes of a training run from headers alone",
    record=PlanOptions,
    positional="model",
    groups=(
        Group(title="Planning", keys=("machine", "frontier", "chart", "endurance")),
        *TRAIN_GROUPS,
    ),
    fixed=(("dry_run", True),),
    trainer_names=True,
    example="outsize plan train smollm2-135m --data my.jsonl --memory 1GiB",
    run=run,
)
