"""`outsize verify`: prove on this machine that streamed training equals plain PyTorch."""

from outsize.cli.verb import Group, Outcome, Verb
from outsize.options import VerifyOptions


def run(options: VerifyOptions) -> Outcome:
    """Compare, show every case, and exit 1 when one differs."""
    from outsize import api
    from outsize.report.tables import show_verify
    from outsize.report.terminal import TerminalReporter

    with TerminalReporter() as reporter:
        result = api.verify(options, reporter.on_event)
    show_verify(reporter.console, result)
    return Outcome(json=result.to_json(), exit_code=0 if result.equal else 1)


VERB = Verb(
    name="verify",
    summary="prove that streamed training equals plain PyTorch on this machine",
    record=VerifyOptions,
    positional="model",
    groups=(
        Group(title="What to compare", keys=("dtypes", "layers", "packed_attention", "quick")),
        Group(title="Length", keys=("steps", "tokens_per_step", "max_seq_length", "seed")),
        Group(title="Budget", keys=("memory", "threads", "work")),
    ),
    example="outsize verify smollm2-135m --memory 1GiB",
    run=run,
)
