"""Names that people have in their scripts: changing one is a line in the CHANGELOG."""

from pathlib import Path

import outsize
from outsize.cli.entry import VERBS
from outsize.cli.parser import make_parser

_OPTIONS = Path(__file__).parent / "options.txt"


def _options() -> list[str]:
    lines = []
    for verb in VERBS.values():
        for action in make_parser(verb)._actions:
            lines += [f"{verb.name} {name}" for name in action.option_strings or [action.dest]]
    return sorted(lines)


def test_the_options_of_the_command_line_are_frozen() -> None:
    """After a change that is meant: write the list with `python tests/arch/test_frozen.py`."""
    assert _options() == _OPTIONS.read_text().splitlines()


def test_the_public_names_are_frozen() -> None:
    assert outsize.__all__ == [
        "BudgetError",
        "OutsizeError",
        "__version__",
        "export",
        "generate",
        "machines",
        "merge",
        "plan",
        "probe",
        "train",
        "verify",
    ]


if __name__ == "__main__":
    _OPTIONS.write_text("\n".join(_options()) + "\n")
