"""From `argv` to an exit code: find the verb, read its options, run it, print one JSON object.

Exit codes: 0 done, 1 a bug of ours (or `verify` found a difference), 2 a mistake in the request,
130 interrupted, 141 nobody reads our output any more.
"""

import contextlib
import json
import math
import os
import select
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from outsize.cli import demo, env, export, generate, machines, merge, plan, probe, train, verify
from outsize.cli.config import read_config
from outsize.cli.huggingface import combine, override, translate
from outsize.cli.parser import make_parser, read_command_line
from outsize.cli.process import prepare_process
from outsize.cli.verb import Outcome, Verb
from outsize.errors import OutsizeError, UsageError
from outsize.fields import build, unknown

VERBS = {
    verb.name.split()[0]: verb
    for verb in (
        train.VERB,
        plan.VERB,
        verify.VERB,
        export.VERB,
        merge.VERB,
        generate.VERB,
        probe.VERB,
        machines.VERB,
        demo.VERB,
        env.VERB,
    )
}

_JSON_ONLY = "--json"
_NOBODY_READS = 141  # what a shell says of a process that ended by SIGPIPE

_BUG = (
    "This is a bug of Outsize, not a mistake of yours. Nothing that was committed is lost.\n"
    "Please report it with the lines above, the command and the output of `outsize env`."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` default to those of the process.

    With `--json` anywhere, nothing but the JSON object is printed.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    quiet = _JSON_ONLY in words
    with _no_human_lines() if quiet else contextlib.nullcontext():
        return _main([word for word in words if word != _JSON_ONLY])


@contextlib.contextmanager
def _no_human_lines() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def _main(arguments: list[str]) -> int:
    try:
        outcome = _outcome(arguments)
        if outcome is not None:
            print(json.dumps(_finite(outcome.json), allow_nan=False))
        if sys.stdout is not None:  # it was closed before we began
            sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        _print_nowhere()
        return _NOBODY_READS
    return 0 if outcome is None else outcome.exit_code


def _outcome(arguments: list[str]) -> Outcome | None:
    try:
        return _run(arguments)
    except OutsizeError as error:
        return _refused(error)
    except KeyboardInterrupt:
        return _failed("interrupted", "Interrupted; what was committed before is kept.", 130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise
        traceback.print_exc()
        return _failed("bug", f"{type(error).__name__}: {error}\n{_BUG}", 1)


def _nobody_reads() -> bool:
    """Tell whether the other end of our output is gone, as after `outsize --help | head -1`."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            poll.register(stream, select.POLLERR)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _print_nowhere() -> None:
    """Let what is still in a buffer vanish when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _finite(value: object) -> object:
    """Replace numbers that JSON does not have, such as the loss of a run that diverged, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _run(arguments: list[str]) -> Outcome | None:
    """Do what was asked; None when that was only text, such as the help."""
    if not arguments:
        raise UsageError("Which verb? Try `outsize --help`.")
    name, rest = arguments[0], arguments[1:]
    if name in ("-h", "--help", "help"):
        _print_verbs()
        return None
    if name in ("-V", "--version"):
        _print_version()
        return None
    if name not in VERBS:
        raise unknown("verb", name, VERBS)
    verb = VERBS[name]
    if verb.name == "plan train":
        rest = _after_train(rest)
    line = read_command_line(verb, rest)
    if line.help:
        print(make_parser(verb).format_help())
        return None
    if verb.record is None:
        return verb.run()
    options = build(verb.record, _settings(verb, line.settings, line.config))
    prepare_process()
    return verb.run(options)


def _settings(verb: Verb, line: dict[str, object], config: str | None) -> dict[str, object]:
    file = {} if config is None else read_config(Path(config))
    if not verb.trainer_names:
        return file | line | dict(verb.fixed)
    return combine(override(translate(file), translate(line))) | dict(verb.fixed)


def _after_train(arguments: list[str]) -> list[str]:
    """Strip the second word of `plan train`, the only thing that can be planned yet; it may be left
    out.
    """
    return arguments[1:] if arguments[:1] == ["train"] else arguments


def _print_verbs() -> None:
    width = max(len(verb.name) for verb in VERBS.values())
    print("usage: outsize VERB [options]\n")
    print("Train, fine-tune and run PyTorch models bigger than memory, inside a budget.\n")
    for verb in VERBS.values():
        print(f"  {verb.name:<{width}}  {verb.summary}")
    print("\n`outsize VERB --help` lists the options of a verb.")
    print("With --json every verb prints its result alone, as one line of JSON.")


def _print_version() -> None:
    from outsize import __version__

    print(f"outsize {__version__}")


def _refused(error: OutsizeError) -> Outcome:
    if os.environ.get("OUTSIZE_DEBUG") == "1":
        traceback.print_exc()
    print(error, file=sys.stderr)
    return Outcome(json={"error": error.to_json()}, exit_code=error.exit_code)


def _failed(kind: str, message: str, exit_code: int) -> Outcome:
    print(message, file=sys.stderr)
    body: dict[str, Any] = {"kind": kind, "message": message}
    return Outcome(json={"error": body}, exit_code=exit_code)
