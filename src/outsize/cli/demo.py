"""`outsize demo`: the whole story on a small real model, in a few minutes."""

from outsize.cli.verb import Outcome, Verb


def run() -> Outcome:
    """Run the demonstration."""
    from outsize import demo

    return Outcome(json=demo.run())


VERB = Verb(
    name="demo",
    summary="fine-tune a small real model in 1 GiB, with the proof that it is exact",
    example="outsize demo",
    run=run,
)
