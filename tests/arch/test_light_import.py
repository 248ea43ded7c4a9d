"""What only talks to the user starts without the heavy libraries."""

import json
import os
import subprocess
import sys

import pytest
from sources import PACKAGE

HEAVY = ("torch", "transformers", "numpy", "datasets", "pyarrow", "pandas", "tokenizers", "rich")

_CODE = """
import contextlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()):
    {code}
print(json.dumps(sorted(m for m in {heavy!r} if m in sys.modules)))
"""


@pytest.mark.parametrize(
    "code",
    [
        "import outsize",
        "import outsize.train.options, outsize.options, outsize.results",
        "from outsize.cli import main; main(['--help'])",
        "from outsize.cli import main; main(['plan', '--help'])",
        "from outsize.cli import main; main(['train', '--help'])",
        "from outsize.cli import main; main(['verify', '--help'])",
        "from outsize.cli import main; main(['train', 'm', '--data', 'd', '--memory', 'lots'])",
        "from pathlib import Path; from outsize.environment import describe_environment; "
        "describe_environment(Path.cwd())",
        "import outsize.isolate",
    ],
)
def test_it_imports_nothing_heavy(code: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    script = _CODE.format(code=code, heavy=HEAVY)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_spec_and_plan_name_no_torch() -> None:
    files = [path for part in ("spec", "plan") for path in (PACKAGE / part).rglob("*.py")]
    assert len(files) > 5
    assert [path for path in files if "import torch" in path.read_text()] == []
