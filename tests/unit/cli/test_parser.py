import pytest

from outsize.cli.entry import VERBS
from outsize.cli.parser import make_parser, read_command_line
from outsize.cli.verb import Verb
from outsize.fields import fields_of

_WITH_OPTIONS = [verb for verb in VERBS.values() if verb.record is not None]


@pytest.mark.parametrize("verb", _WITH_OPTIONS, ids=lambda verb: verb.name)
def test_every_option_is_in_exactly_one_group(verb: Verb) -> None:
    assert verb.record is not None
    keys = [key for group in verb.groups for key in group.keys]
    keys += [verb.positional] if verb.positional else []
    assert sorted(keys) == sorted(field.key for field in fields_of(verb.record))


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_the_help_fits_80_columns_and_explains_every_option(
    verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = make_parser(verb).format_help()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert verb.example in text
    assert "None" not in text
    fields = fields_of(verb.record) if verb.record else ()
    assert all(field.help for field in fields)


def test_underscores_in_values_are_kept() -> None:
    line = read_command_line(VERBS["train"], ["a_b", "--data", "c_d", "--output_dir=e_f"])
    assert line.settings == {"model": "a_b", "data": "c_d", "output_dir": "e_f"}


def test_a_flag_of_the_trainers_takes_a_value_or_none() -> None:
    line = read_command_line(VERBS["train"], ["m", "--bf16", "--fp16", "False"])
    assert line.settings == {"model": "m", "bf16": "true", "fp16": "False"}
