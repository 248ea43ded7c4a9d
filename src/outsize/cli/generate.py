"""`outsize generate`: let a model, or what a run has made of it, answer a prompt."""

from outsize.cli.verb import Group, Outcome, Verb
from outsize.options import GenerateOptions


def run(options: GenerateOptions) -> Outcome:
    """Generate, and show the answer."""
    from outsize import api
    from outsize.report.tables import show_generate
    from outsize.report.terminal import TerminalReporter

    with TerminalReporter() as reporter:
        result = api.generate(options, reporter.on_event)
    show_generate(reporter.console, result)
    return Outcome(json=result.to_json())


VERB = Verb(
    name="generate",
    summary="let a model, or what a run has made of it, answer a prompt",
    record=GenerateOptions,
    positional="model",
    groups=(
        Group(title="Prompt", keys=("prompt", "chat", "max_new_tokens")),
        Group(title="Sampling", keys=("temperature", "top_p", "top_k", "seed")),
        Group(title="Budget", keys=("memory", "dtype", "threads")),
    ),
    example='outsize generate smollm2-135m --prompt "What is a closure?"',
    run=run,
)
