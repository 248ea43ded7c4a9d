"""One process for all tests that trains in forks of itself."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from killed_runs import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Start it once: it imports PyTorch and Transformers."""
    script = Path(__file__).with_name("fork_server.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()
