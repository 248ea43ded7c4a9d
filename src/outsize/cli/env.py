"""`outsize env`: what to paste into a bug report."""

from pathlib import Path

from outsize.cli.verb import Outcome, Verb


def run() -> Outcome:
    """Describe this machine and the working folder's disk."""
    from outsize.environment import describe_environment
    from outsize.report.tables import show_environment
    from outsize.report.terminal import make_console

    result = describe_environment(Path.cwd())
    show_environment(make_console(), result)
    return Outcome(json=result.to_json())


VERB = Verb(
    name="env",
    summary="describe this machine and what is installed, for a bug report",
    example="outsize env",
    run=run,
)
