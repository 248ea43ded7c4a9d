"""`outsize machines`: the machines that can be planned for without being at hand."""

from outsize.cli.verb import Outcome, Verb
from outsize.options import MachinesOptions


def run(options: MachinesOptions) -> Outcome:
    """Show the catalogue, or one machine in full."""
    from outsize import api
    from outsize.report.machines_table import show_machines
    from outsize.report.terminal import make_console

    result = api.machines(options)
    show_machines(make_console(), result)
    return Outcome(json=result.to_json())


VERB = Verb(
    name="machines",
    summary="list the machines that can be planned for without being at hand",
    record=MachinesOptions,
    positional="name",
    example="outsize machines workstation-24gb",
    run=run,
)
