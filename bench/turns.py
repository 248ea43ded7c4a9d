"""Processes that train step by step and take turns: one computes, the others are stopped.

Speeds on a shared machine drift within minutes, by more than what is compared. Steps that follow
each other directly are compared instead of runs.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from queue import SimpleQueue
from threading import Thread

_STEP_DONE = re.compile(r" *(plain |deepspeed )?step +\d+[/:]")
_END = ""


class Runner:
    """A process that writes a line with `step N` to stderr after every step.

    Args:
        name: what to call it.
        command: what to run; its last line on stdout is JSON.
        environment: variables besides our own.
    """

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        Thread(target=self._read, daemon=True).start()

    def step(self) -> float:
        """Let it do one step, or start and do its first one, and return the seconds."""
        self._signal(signal.SIGCONT)
        start_s = time.perf_counter()
        while (line := self._lines.get()) != _END:
            if _STEP_DONE.match(line):
                seconds = time.perf_counter() - start_s
                self._signal(signal.SIGSTOP)
                return seconds
        raise RuntimeError(f"{self.name} ended before its steps were done")

    def finish(self) -> dict:
        """Let it end and return what it prints."""
        self._signal(signal.SIGCONT)
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        if self._process.wait():
            raise RuntimeError(f"{self.name} ended with code {self._process.returncode}")
        return json.loads(text.splitlines()[-1])

    def kill(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            sys.stderr.write(f"{self.name}: {line}")
            self._lines.put(line)
        self._lines.put(_END)
