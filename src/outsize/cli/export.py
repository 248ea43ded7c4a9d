"""`outsize export`: write the weights of a run as a model that other programs load."""

from outsize.cli.verb import Group, Outcome, Verb
from outsize.options import ExportOptions


def run(options: ExportOptions) -> Outcome:
    """Write the folder and say what is in it."""
    from outsize import api
    from outsize.report.tables import show_export
    from outsize.report.terminal import TerminalReporter

    with TerminalReporter() as reporter:
        result = api.export(options, reporter.on_event)
    show_export(reporter.console, result)
    return Outcome(json=result.to_json())


VERB = Verb(
    name="export",
    summary="write the weights of a run as a model that other programs load",
    record=ExportOptions,
    positional="run",
    groups=(
        Group(title="What to write", keys=("output", "format", "dtype", "max_shard_size")),
        Group(title="Budget", keys=("memory",)),
    ),
    example="outsize export runs/mine --format safetensors --output my-model",
    run=run,
)
