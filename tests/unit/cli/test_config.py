from pathlib import Path

import pytest

from outsize.cli.config import read_config
from outsize.errors import UsageError


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_keys_are_read_with_either_dash(tmp_path: Path) -> None:
    path = _write(tmp_path, "memory: 1GiB\nlearning-rate: 5e-5\nmax_steps: 3\nresume: null\n")
    assert read_config(path) == {
        "memory": "1GiB",
        "learning_rate": "5e-5",
        "max_steps": 3,
        "resume": None,
    }


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert read_config(_write(tmp_path, "# later\n")) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 1\nseed: 2\nsteps: 3\n", r"line 3: steps is written twice\."),
        ("max-steps: 1\nmax_steps: 3\n", r"line 2: max_steps is written twice\."),
        ("- steps\n", "must hold one mapping of options"),
        ("1: 2\n", "must hold one mapping of options"),
        ("steps: [1\n", "is not valid YAML"),
        ("a: !!python/object:os.system {}\n", "is not valid YAML"),
        (b"a: \xff\xfe\xff", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config(_write(tmp_path, text))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml cannot be read: No such file or directory\."):
        read_config(tmp_path / "none.yaml")
