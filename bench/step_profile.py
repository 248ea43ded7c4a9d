"""Where does the time of a step go? One run with every action timed, one step of it sampled.

    python bench/step_profile.py smollm2-135m --memory 1GiB [--tokens-per-step 4096] [--steps 4]

Times each kind of action in every step but the first and the last one. In the last one `py-spy`
(from PyPI) looks from outside, 200 times a second, at who holds the interpreter's lock: PyTorch's
operations and waits let go of it, so the share of looks at which the computing thread holds it is
what Python costs. Writes a table to bench/results.
"""

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from outsize.cli.process import prepare_process
from shapes import SHAPES
from train_command import run_options, train_arguments

prepare_process()

from outsize.cli import main as outsize  # noqa: E402
from outsize.plan.actions import Compute, Update, Work  # noqa: E402
from outsize.plan.simulate import work_seconds  # noqa: E402
from outsize.train.kernels import TrainKernels  # noqa: E402
from outsize.train.trainer import Trainer  # noqa: E402

HERE = Path(__file__).parent
LOOKS_PER_S = 200


class Watch:
    """Times every action and every wait of a run."""

    def __init__(self, last_step: int, stacks: Path) -> None:
        self.last_step = last_step
        self.stacks = stacks
        self.steps: list[dict[str, float]] = []
        self.idle: dict[str, float] = defaultdict(float)
        self.python_share = 0.0
        self._now: dict[str, float] = defaultdict(float)

    def run(self, original, kernels, action: Work, views) -> None:
        """Do one action."""
        start_s = time.perf_counter()
        original(kernels, action, views)
        self._now[kind(action, kernels)] += time.perf_counter() - start_s

    def step(self, original, trainer, step: int, actions) -> None:
        """Do one step, sampled if it is the last one."""
        if step == 1:  # the first step has no update
            self._note_idle(trainer, actions)
        self._now = defaultdict(float)
        exposed_s = trainer._executor.exposed_io_s
        start_s = time.perf_counter()
        if step + 1 == self.last_step:
            with sampled(self.stacks):
                original(trainer, step, actions)
            seconds = time.perf_counter() - start_s
            self.python_share = num_looks(self.stacks) / LOOKS_PER_S / seconds
            return
        original(trainer, step, actions)
        step_s = time.perf_counter() - start_s
        waited_s = trainer._executor.exposed_io_s - exposed_s
        times = dict(self._now) | {"waiting for the disk": waited_s}
        self.steps.append(times | {"all else": step_s - sum(times.values())})

    def _note_idle(self, trainer, actions) -> None:
        """Note the times of the kinds of actions that were measured without transfers beside."""
        session = trainer._session
        for action in actions:
            if isinstance(action, Work):
                self.idle[kind(action, session.kernels)] += work_seconds(
                    session.layout, action, session.machine, session.profile.costs
                )


@contextmanager
def sampled(stacks: Path) -> Iterator[None]:
    """Write which stacks of this process hold the interpreter's lock, and how often."""
    command = ["py-spy", "record", "--gil", "--nonblocking", "--rate", str(LOOKS_PER_S)]
    command += ["--duration", "unlimited", "--format", "raw", "--output", str(stacks)]
    sampler = subprocess.Popen([*command, "--pid", str(os.getpid())], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        sampler.send_signal(signal.SIGINT)
        sampler.wait()


def num_looks(stacks: Path) -> int:
    """Return how often the thread that computes held the lock; the drive's threads are others."""
    lines = stacks.read_text().splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines if "Lane._serve" not in line)


def kind(action: Work, kernels: TrainKernels) -> str:
    """What an action is called in the table."""
    match action:
        case Update():
            return "optimizer"
        case Compute(_, "gradient_norm", _):
            return "gradient norm"
        case Compute(0, phase, _):
            return f"embedding, {phase}"
        case Compute(layer, phase, _) if layer == kernels._head:
            return f"head and loss, {phase}"
        case Compute(_, phase, _):
            return f"blocks, {phase}"


def alone(watch: Watch, name: str) -> str:
    """Seconds that the planner assumes."""
    return f"{watch.idle[name]:.3f}" if name in watch.idle else "-"


def main() -> None:
    options = read_options()
    if shutil.which("py-spy") is None:
        sys.exit("py-spy is not there: pip install py-spy")
    run, step = TrainKernels.run, Trainer._step
    TrainKernels.run = lambda *inputs: watch.run(run, *inputs)
    Trainer._step = lambda *inputs: watch.step(step, *inputs)
    with TemporaryDirectory(dir=options.work) as folder:
        watch = Watch(options.steps, Path(folder) / "stacks")
        model = Path(folder) / "model"
        model.mkdir()
        (model / "config.json").write_text(json.dumps(SHAPES[options.shape]))
        arguments = train_arguments(
            options, model, f"{folder}/run", steps=options.steps, commit_seconds=1e6
        )
        code = outsize(arguments)
    if code:
        sys.exit(code)
    report(options, watch)


def read_options() -> argparse.Namespace:
    parser = run_options(__doc__)
    parser.add_argument("--steps", type=int, default=4)
    return parser.parse_args()


def report(options: argparse.Namespace, watch: Watch) -> None:
    steps = sorted(watch.steps[1:], key=lambda step: sum(step.values()))
    names = steps[len(steps) // 2]
    total_s = sum(names.values())
    lines = [
        f"# {options.shape}: where the time of a step goes, {datetime.date.today()}",
        "",
        f"`python bench/step_profile.py {' '.join(sys.argv[1:])}`",
        "",
        f"The median of {len(steps)} steps: {total_s:.2f} s, "
        f"{options.tokens_per_step / total_s:.0f} tokens/s.",
        "",
        "| | seconds a step | share | measured alone, before the run |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {seconds:.3f} | {seconds / total_s:.1%} | {alone(watch, name)} |"
            for name, seconds in sorted(names.items(), key=lambda item: -item[1])
        ),
        "",
        "Python, outside PyTorch's operations and waits: the computing thread holds the "
        f"interpreter's lock in {watch.python_share:.1%} of a step.",
    ]
    name = f"step-profile-{options.shape}-{options.tokens_per_step}-{options.memory}.md"
    path = HERE / "results" / name
    path.write_text("\n".join(lines) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
