"""`outsize merge`: write a model with adapters merged into it."""

from outsize.cli.verb import Group, Outcome, Verb
from outsize.options import MergeOptions


def run(options: MergeOptions) -> Outcome:
    """Write the folder and say what is in it."""
    from outsize import api
    from outsize.report.tables import show_merge
    from outsize.report.terminal import TerminalReporter

    with TerminalReporter() as reporter:
        result = api.merge(options, reporter.on_event)
    show_merge(reporter.console, result)
    return Outcome(json=result.to_json())


VERB = Verb(
    name="merge",
    summary="write a model with adapters merged into its weights",
    record=MergeOptions,
    positional="adapter",
    groups=(
        Group(title="What to write", keys=("model", "output", "dtype", "max_shard_size")),
        Group(title="Budget", keys=("memory",)),
    ),
    example="outsize merge runs/mine --output merged-model",
    run=run,
)
