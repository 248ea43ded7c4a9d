"""`outsize probe`: measure this machine once, for every prediction after."""

from outsize.cli.verb import Group, Outcome, Verb
from outsize.options import ProbeOptions


def run(options: ProbeOptions) -> Outcome:
    """Measure, show what was found, and where it is kept."""
    from outsize import api
    from outsize.report.probe_table import show_probe
    from outsize.report.terminal import TerminalReporter

    with TerminalReporter() as reporter:
        result = api.probe(options, reporter.on_event)
    show_probe(reporter.console, result)
    return Outcome(json=result.to_json())


VERB = Verb(
    name="probe",
    summary="measure this machine, for the predictions of every run",
    record=ProbeOptions,
    groups=(Group(title="What to measure", keys=("folder", "threads", "output")),),
    example="outsize probe --folder runs",
    run=run,
)
