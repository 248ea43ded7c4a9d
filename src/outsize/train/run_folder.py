"""The folder of one training run: what it was asked, what it has done, and the state it goes on
from.

`run.json` holds the options and is written once; `metrics.jsonl` gains a line a step; `state.bin`
and `journal.bin` are the checkpoint; `model/` and `data/` hold the config, the tokenizer and the
tokenised rows.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from outsize.errors import RunError, StorageError
from outsize.paths import is_file, is_there
from outsize.probe.scratch import SCRATCH_PREFIX
from outsize.store.durable import write_whole_file
from outsize.store.journal import Journal
from outsize.store.kernel import reason
from outsize.store.lock import LOCK_NAME, RunLock
from outsize.train.options import TrainOptions

Options = TypeVar("Options", bound=TrainOptions)

_FORMAT = 1
_FREE_TO_CHANGE = frozenset(
    {
        "memory_bytes",
        "disk_bytes",
        "threads",
        "resume",
        "output",
        "commit_seconds",
        "objective",
        "activations",
        "dry_run",
    }
)
"""Options that may differ when a run is resumed: they change no number of the result."""

_BEFORE_THE_RUN = frozenset({LOCK_NAME, "model", "data", "evaluation", "run.json.new"})
"""What a process that died before `run.json` was written may have left besides the file that it
measured the disk with, the lock first of all; it is made anew.
"""


class RunFolder:
    """Paths and small files of a run; holds the folder's lock until `close`."""

    def __init__(self, path: Path, lock: RunLock, options: TrainOptions) -> None:
        self.path = path
        self.options = options
        self._lock = lock

    model = property(lambda self: self.path / "model")
    data = property(lambda self: self.path / "data")
    evaluation_data = property(lambda self: self.path / "evaluation")
    state = property(lambda self: self.path / "state.bin")
    journal = property(lambda self: self.path / "journal.bin")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    plan = property(lambda self: self.path / "plan.txt")

    @property
    def span_elements(self) -> int | None:
        """Elements of a span in the run's state file; None before there is a run."""
        return span_of_run(self.path) if (self.path / "run.json").exists() else None

    @staticmethod
    def create(path: Path, options: TrainOptions) -> "RunFolder":
        """Make a new run folder.

        Raises:
            RunError: the folder holds another run, or anything else, or cannot be made.
        """
        if is_file(path):
            raise RunError(f"{path} is a file; --output names a folder.")
        if is_there(path / "run.json"):
            raise RunError(
                f"{path} holds another run.\n  Go on with it: --resume {path}\n"
                "  Or choose another folder with --output."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            found = sorted(p.name for p in path.iterdir())
        except OSError as error:
            raise RunError(
                f"{path} cannot be used: {reason(error)}; choose another folder with --output."
            ) from error
        foreign = [name for name in found if LOCK_NAME not in found or not _is_left_over(name)]
        if foreign:
            raise RunError(
                f"{path} is not empty (it holds {foreign[0]}); choose another folder with --output."
            )
        return RunFolder(path, RunLock(path), options)

    @staticmethod
    def open(path: Path, asked: TrainOptions) -> "RunFolder":
        """Open the folder of a run to go on with it.

        Raises:
            RunError: there is no run, or `asked` differs from it in an option that would change the
                result.
        """
        # First of all: where there is no run, not even the lock's file is left behind.
        options = merged_options(path, asked)
        return RunFolder(path, RunLock(path), options)

    def start(self, facts: Mapping[str, Any]) -> None:
        """Write `run.json`: from now on the folder holds a run that can be resumed."""
        options = dataclasses.asdict(self.options) | {"given": sorted(self.options.given)}
        content = {"format": _FORMAT, "options": options, **facts}
        write_whole_file(self.path / "run.json", json.dumps(content, indent=2).encode())

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to the metrics."""
        self._write(self.metrics, json.dumps(record) + "\n", "a")

    def keep_plan(self, text: str) -> None:
        """Write the plan that the run goes by."""
        self._write(self.plan, text, "w")

    def has_commit(self) -> bool:
        """Tell whether there is a committed state to go on from.

        Raises:
            StorageError: the journal is damaged.
            RunError: steps were done, but the journal is gone; or as `last_commit`.
        """
        return committed_step(self.path) is not None and last_commit(self.journal) is not None

    def _write(self, path: Path, text: str, mode: str) -> None:
        try:
            with path.open(mode) as file:
                file.write(text)
        except OSError as error:
            raise StorageError(
                f"Writing {path} failed: {reason(error)}.\n"
                "  The last commit is whole; make room, then resume."
            ) from error

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps after `step`: they will be done again."""
        if not self.metrics.exists():
            return
        kept = [
            line
            for line in self.metrics.read_text().splitlines()
            if line.endswith("}") and json.loads(line)["step"] <= step
        ]
        write_whole_file(self.metrics, "".join(f"{line}\n" for line in kept).encode())

    def close(self) -> None:
        """Let other processes in."""
        self._lock.release()


def _is_left_over(name: str) -> bool:
    return name in _BEFORE_THE_RUN or name.startswith(SCRATCH_PREFIX)


def merged_options(path: Path, asked: Options) -> Options:
    """Return the options of a run that goes on: those that it was started with, and from `asked`
    what may change.

    Raises:
        RunError: there is no run, or `asked` differs from it in an option that would change the
            result.
    """
    stored = read_options(path)
    names = [field.name for field in dataclasses.fields(TrainOptions)]
    differing = [
        f"  {name}: the run has {getattr(stored, name)!r}, asked is {getattr(asked, name)!r}"
        for name in sorted((asked.given & set(names)) - _FREE_TO_CHANGE)
        if getattr(asked, name) != getattr(stored, name)
    ]
    if differing:
        raise RunError(
            f"The run in {path} was started with other options:\n"
            + "\n".join(differing)
            + "\nLeave them out to go on as it was, or start a new run with --output."
        )
    kept = {name: getattr(stored, name) for name in names}
    changed = {name: getattr(asked, name) for name in asked.given & _FREE_TO_CHANGE}
    return dataclasses.replace(asked, **{**kept, **changed})


def span_of_run(path: Path) -> int:
    """Return the elements of a span in a run's state file.

    Raises:
        RunError: as `read_run`.
    """
    return int(_fact(path, "layout", "span_elements"))


def base_of_run(path: Path) -> str:
    """Return the model that a run was started from; a path on this machine is absolute.

    Raises:
        RunError: as `read_run`.
    """
    return str(read_run(path).get("base") or _fact(path, "options", "model"))


def steps_of_run(path: Path) -> int:
    """Return the steps that a run was started for.

    Raises:
        RunError: as `read_run`.
    """
    return int(_fact(path, "num_steps"))


def committed_step(path: Path) -> int | None:
    """Return how many steps of a run are committed; None where not even a first state is.

    Raises:
        StorageError: the journal is damaged.
        RunError: steps were done, but the journal is gone.
    """
    journal = path / "journal.bin"
    if journal.exists():
        record = Journal(journal).latest()
        return None if record is None else int(str(record["step"]))
    if (path / "metrics.jsonl").exists():
        raise RunError(
            f"{path} has lost its {journal.name}, which says what is committed.\n"
            "  Bring it back from where the folder was copied, or start a new run."
        )
    return None


def last_commit(journal: Path) -> Mapping[str, object] | None:
    """Return the newest commit record of a run's journal; None when nothing was ever committed.
    For who holds the run's lock: of a run that goes on, the state changes all the time.

    Raises:
        StorageError: the journal is damaged.
        RunError: the run was killed while a step changed the only copy of its state.
    """
    record = Journal(journal).latest()
    if record is not None and record.get("whole") is False:
        raise RunError(
            f"The run in {journal.parent} keeps its state in place (--in-place) and was killed "
            f"while a step after step {record['step']} changed it, so no whole state is left.\n"
            "  Start a new run; without --in-place, a run can go on whenever it is killed."
        )
    return record


def read_run(path: Path) -> dict[str, Any]:
    """Return the content of `run.json`.

    Raises:
        RunError: the folder holds no run, or one of another version.
    """
    try:
        content: dict[str, Any] = json.loads((path / "run.json").read_bytes())
    except OSError as error:
        raise RunError(
            f"{path} holds no run (there is no run.json in it); "
            "--resume names the folder that a run was started with as --output."
        ) from error
    except ValueError as error:
        raise RunError(f"{path / 'run.json'} is damaged: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise RunError(f"{path} was written by another version of Outsize.")
    return content


def read_options(path: Path) -> TrainOptions:
    """Return the options that a run was started with, and the micro-batch that was chosen then: it
    decides in which order gradients are added up.

    Raises:
        RunError: as `read_run`.
    """
    values = _fact(path, "options")
    given = frozenset(_fact(path, "options", "given"))
    rows = _fact(path, "layout", "workload", "micro_batch_rows")
    own = {"given": given, "micro_batch_size": rows}
    return TrainOptions(**{"method": "full", **values, **own})  # runs were full before they said so


def _fact(path: Path, *keys: str) -> Any:
    """Return one entry of `run.json`."""
    value: Any = read_run(path)
    try:
        for key in keys:
            value = value[key]
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{path / 'run.json'} does not say how the run was started: "
            "it was changed, or written by another version of Outsize."
        ) from error
    return value
