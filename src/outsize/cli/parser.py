"""Make the command line of a verb from its dataclass, and read it into settings by key.

Values stay text here; `fields.build` converts them, so that the command line and the YAML file are
refused in the same words. Options are written with `-`; `_` is read as well. No option is ever
abbreviated.
"""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from outsize.cli.huggingface import TRAINER_NAMES
from outsize.cli.verb import Verb
from outsize.errors import UsageError
from outsize.fields import OptionField, fields_of, unknown
from outsize.quantities import format_bytes

_METAVARS = {"text": "TEXT", "integer": "N", "number": "X", "size": "SIZE", "list": "A,B"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What was typed after the verb.

    Attributes:
        settings: text (or a flag's value) by key.
        config: the YAML file to read; None without one.
        help: whether only the help was asked for.
    """

    settings: dict[str, object]
    config: str | None
    help: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}. Try `{self.prog} --help`.")


def make_parser(verb: Verb) -> argparse.ArgumentParser:
    """Make the parser; its options are exactly the keys of the record, `--config` and `--help`."""
    parser = _Parser(
        prog=f"outsize {verb.name}",
        description=verb.summary[0].upper() + verb.summary[1:] + ".",
        epilog=_epilog(verb),
        formatter_class=_formatter,
        usage=f"outsize {verb.name}{_usage(verb)} [options]",
        add_help=False,
        allow_abbrev=False,
    )
    fields = {field.key: field for field in fields_of(verb.record)} if verb.record else {}
    if verb.positional:
        field = fields[verb.positional]
        place = parser.add_argument_group("What to use")
        place.add_argument(
            field.key, nargs="?", metavar=field.key.upper(), default=None, help=_help(field)
        )
    for group in verb.groups:
        section = parser.add_argument_group(group.title)
        for key in group.keys:
            _add_option(section, fields[key])
    common = parser.add_argument_group("Other")
    if fields:
        common.add_argument("--config", metavar="FILE", help="YAML file with any of these options")
    common.add_argument("-h", "--help", action="store_true", help="show this and do nothing")
    if verb.trainer_names:
        _add_trainer_names(parser, fields)
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    width = min(100, shutil.get_terminal_size().columns)
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=width)


def _usage(verb: Verb) -> str:
    return f" {verb.positional.upper()}" if verb.positional else ""


def _epilog(verb: Verb) -> str:
    text = f"For example:\n  {verb.example}\n"
    if verb.trainer_names:
        text += (
            "\nThe Hugging Face trainers' spellings (max_steps, output_dir,\n"
            "gradient_accumulation_steps, ...) are read where they mean the same; one that\n"
            "cannot be honoured is an error.\n"
        )
    return text


def _add_option(section: argparse._ArgumentGroup, field: OptionField) -> None:
    flag = "--" + field.key.replace("_", "-")
    if field.rule.kind == "flag":
        section.add_argument(
            flag,
            dest=field.key,
            action=argparse.BooleanOptionalAction,
            default=argparse.SUPPRESS,
            help=_help(field),
        )
        return
    metavar = "|".join(field.rule.choices) if field.rule.kind == "choice" else None
    section.add_argument(
        flag,
        dest=field.key,
        metavar=metavar or _METAVARS[field.rule.kind],
        default=argparse.SUPPRESS,
        help=_help(field),
    )


def _help(field: OptionField) -> str:
    text = field.help.rstrip(".").replace("`", "").replace("%", "%%").replace("None", "unset")
    if field.default is None or field.rule.kind == "flag":
        return text
    return f"{text} (default: {_default(field)})"


def _default(field: OptionField) -> str:
    if field.rule.kind == "size" and isinstance(field.default, int):
        return format_bytes(field.default)
    return ",".join(field.default) if isinstance(field.default, tuple) else str(field.default)


def _add_trainer_names(parser: argparse.ArgumentParser, fields: dict[str, OptionField]) -> None:
    for name in TRAINER_NAMES:
        if name not in fields:
            parser.add_argument(
                "--" + name.replace("_", "-"),
                dest=name,
                nargs="?",
                const="true",
                default=argparse.SUPPRESS,
                help=argparse.SUPPRESS,
            )


def read_command_line(verb: Verb, arguments: Sequence[str]) -> CommandLine:
    """Read what was typed after the verb.

    Raises:
        UsageError: an option that does not exist (with what was probably meant), or lacks its
            value.
    """
    parser = make_parser(verb)
    spelled = [_dashes(argument) for argument in arguments]
    found, rest = parser.parse_known_args(spelled)
    settings = {key: value for key, value in vars(found).items() if value is not None}
    for argument in rest:
        if argument.startswith("-"):
            known = [option for action in parser._actions for option in action.option_strings]
            raise unknown("option", argument.partition("=")[0], known)
    if rest:
        raise UsageError(f"{rest[0]!r} is not expected here. Try `outsize {verb.name} --help`.")
    config = settings.pop("config", None)
    return CommandLine(settings=settings, config=config, help=settings.pop("help"))


def _dashes(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if argument.startswith("--") else argument
