"""A process that has imported everything once and trains in forks of itself, which may be killed.

It reads one request a line on stdin and answers each with one line on stdout, so that a test can
kill dozens of real processes without paying for their imports. The run is `run_training` as the
command line calls it; only the system calls of the disk tier are replaced (`store/kernel.py`), and
the planner is told of a smaller arena, so that a tiny model has to stream.
"""

import dataclasses
import errno
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from outsize.errors import OutsizeError
from outsize.formats.hub import files_in_folder
from outsize.machines.profile_file import load_profile, profile_path
from outsize.models.architectures import ARCHITECTURES
from outsize.plan import choose
from outsize.plan.search import plan_train_step
from outsize.runtime.events import Committed, Evaluated, Event, StepFinished
from outsize.store import disk, journal
from outsize.store.kernel import Kernel
from outsize.store.lock import RunLock
from outsize.train import fit, run
from outsize.train.launch import Launch
from outsize.train.options import TrainOptions
from outsize.train.run_folder import RunFolder

DISK_BYTES = 2**40


@dataclasses.dataclass
class Drive:
    """Counts the system calls of a process that change the drive and breaks one of them.

    Attributes:
        stop_at: number of the call, from 1, that is broken; None for none.
        how: `before`, `half` or `after`: when the process is killed; `power`: it is killed, and of
            what was written and not synced every second write is lost; or the name of an error that
            this call and all later ones fail with.
        only: calls that are counted, such as `fdatasync state.bin`; None counts all.
    """

    stop_at: int | None
    how: str
    only: str | None
    count: int = 0
    lock: Any = dataclasses.field(default_factory=threading.Lock)
    unsynced: dict[Path, list[tuple[int, bytes]]] = dataclasses.field(default_factory=dict)

    def kernel(self) -> Kernel:
        """Return the system calls of this drive, and replace the one that is not asked for."""
        fsync = os.fsync
        os.fsync = lambda fd: self._call("fsync", _name(fd), fsync, fd)
        return Kernel(
            open=lambda path, *rest: self._call("open", path, os.open, path, *rest),
            pwritev=self._pwritev,
            fdatasync=self._fdatasync,
            posix_fallocate=lambda fd, *rest: self._call(
                "allocate", _name(fd), os.posix_fallocate, fd, *rest
            ),
        )

    def _pwritev(self, fd: int, buffers: list[memoryview], offset: int) -> int:
        path = _name(fd)
        with self.lock:
            old = _read(path, offset, len(buffers[0]))
            self.unsynced.setdefault(path, []).append((offset, old))
        return self._call("pwritev", path, os.pwritev, fd, buffers, offset)

    def _fdatasync(self, fd: int) -> None:
        path = _name(fd)
        with self.lock:
            before = len(self.unsynced.get(path, ()))
        self._call("fdatasync", path, os.fdatasync, fd)
        with self.lock:
            self.unsynced[path] = self.unsynced.get(path, [])[before:]

    def _call(self, kind: str, path: Path, call: Callable[..., Any], *arguments: Any) -> Any:
        with self.lock:
            self.count += self.only in (None, f"{kind} {path.name}")
            is_it = self.stop_at is not None and self.count >= self.stop_at
        if not is_it:
            return call(*arguments)
        if self.how in errno.errorcode.values():
            code = getattr(errno, self.how)
            raise OSError(code, os.strerror(code))
        if self.how == "half" and kind == "pwritev":
            _write_half(*arguments)
        elif self.how == "after":
            call(*arguments)
        elif self.how == "power":
            self._lose_power()
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    def _lose_power(self) -> None:
        with self.lock:
            for path, writes in self.unsynced.items():
                with path.open("r+b") as file:
                    for offset, old in writes[::-2]:
                        file.seek(offset)
                        file.write(old)


def _name(fd: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{fd}"))


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _write_half(fd: int, buffers: list[memoryview], offset: int) -> None:
    """Write the first half, in whole pages where direct I/O needs that."""
    (buffer,) = buffers
    half = len(buffer) // 2
    if len(buffer) % 4096 == 0:
        half = max(4096, half // 4096 * 4096)
    os.pwritev(fd, [memoryview(buffer)[:half]], offset)


def train(request: dict[str, Any]) -> dict[str, Any]:
    """Train or go on in `folder`; return what happened."""
    drive = Drive(stop_at=request["stop_at"], how=request["how"], only=request["only"])
    kernel = drive.kernel()
    _replace(disk, "Kernel", lambda: kernel)
    _replace(journal, "Kernel", lambda: kernel)
    _replace(fit, "_LEAST_SPAN_ELEMENTS", request["span_elements"])
    _replace(fit, "_MOST_SPANS", 2**40)
    _replace(
        choose,
        "plan_train_step",
        lambda layout, arena_bytes, machine, costs, objective: plan_train_step(
            layout, min(arena_bytes, request["arena_bytes"]), machine, costs, objective
        ),
    )
    torch.set_num_threads(1)
    events: list[tuple[str, int, float]] = []
    folder, options = Path(request["folder"]), TrainOptions(**request["options"])
    resumed = (folder / "run.json").exists()
    RunLock(folder).release()  # so that what was prepared in the folder is known as a run's
    place = RunFolder.open(folder, options) if resumed else RunFolder.create(folder, options)
    inputs = Launch(
        folder=place,
        files=files_in_folder(Path(request["weights"] or place.model)),
        machine=load_profile(profile_path()),
        resumed=resumed,
        host_budget_bytes=2**36,
        disk_budget_bytes=DISK_BYTES,
        launch_peak_bytes=0,
    )
    try:
        result = run.run_training(inputs, lambda e: _note(e, folder, events), time.monotonic())
    except OutsizeError as error:
        return {"error": error.to_json(), "calls": drive.count, "events": events}
    return {"result": result.to_json(), "calls": drive.count, "events": events}


def _replace(module: ModuleType, name: str, value: object) -> None:
    assert name in vars(module), f"{module.__name__} has no {name} any more"
    setattr(module, name, value)


def _note(event: Event, folder: Path, events: list[tuple[str, int, float]]) -> None:
    match event:
        case StepFinished(step=step, loss=loss):
            events.append(("step", step, loss))
        case Evaluated(step=step, loss=loss):
            events.append(("evaluated", step, loss))
        case Committed(step=step):
            record = journal.Journal(folder / "journal.bin").latest()
            assert record is not None
            events.append(("committed", step, record["checksums"]))


def serve() -> None:
    """Answer every request in a fork of its own."""
    ARCHITECTURES[0].model_class()  # imported once for all forks
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                answer = train(request)
            except BaseException:
                answer = {"bug": traceback.format_exc()}
            with os.fdopen(writer, "w") as stream:
                json.dump(answer, stream)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            text = stream.read()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(json.dumps({"killed": killed, **(json.loads(text) if text else {})}), flush=True)


if __name__ == "__main__":
    serve()
