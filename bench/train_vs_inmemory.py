"""Is streamed training as fast as training in memory? Both in turn, A B A B, in one run.

    python bench/train_vs_inmemory.py smollm2-135m --memory 1GiB [--rounds 6]

Builds random weights of a shape, then runs plain PyTorch at its best (allocator tuned; with
`--huge-pages` and `--compile` in these variants too), the peers that `--peer` names, and
`outsize train` inside a memory control group of the budget's size, each in its own process, on the
same rows, without clipping. They take turns step by step (`turns.py`), so all of them are in memory
at once; `--plain-micro-batch` without a number leaves plain PyTorch out, to make room for a peer.
Writes a table to bench/results. Needs root for the control group; without it the budget is
Outsize's own. The share of the matrix rate needs a profile (`outsize probe`).
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from outsize.formats.model_spec import know_model
from outsize.formats.prepare import prepare_model
from outsize.machines.profile_file import load_profile, profile_path
from outsize.quantities import format_bytes
from outsize.train.data.child import prepare_in_child
from outsize.train.data.options import DataOptions
from shapes import SHAPES
from train_command import run_options, train_arguments
from turns import Runner

HERE = Path(__file__).parent
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "34359738368",
    "MALLOC_TRIM_THRESHOLD_": "34359738368",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_MMAP_MAX_": "0",
}
DEEPSPEED = {
    "DS_ACCELERATOR": "cpu",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29517",
}
WARM_UP_STEPS = 2
COMMIT_SECONDS = 60
"""Of Outsize's own clock, which goes on while the others compute."""
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def main() -> None:
    options = read_options()
    with TemporaryDirectory(dir=options.work) as name:
        work = Path(name)
        make_model(options.shape, work / "model")
        prepare_in_child(
            DataOptions(
                data="builtin:python-reference",
                tokenizer_folder=str(work / "model"),
                output=str(work / "data"),
                max_seq_length=options.seq_length,
            )
        )
        share = matrix_share(options, work / "model" / "config.json")
        seconds, results = run_all(options, work)
    report(options, seconds, results, share)


def read_options() -> argparse.Namespace:
    parser = run_options(__doc__)
    parser.add_argument("--plain-micro-batch", type=int, nargs="*", default=[4, 1])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--peer", nargs="*", default=[], choices=["deepspeed-cpu", "deepspeed-nvme"]
    )
    parser.add_argument("--peer-micro-batch", type=int, default=2)
    parser.add_argument("--huge-pages", action="store_true")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def make_model(shape: str, folder: Path) -> None:
    """Write a config and SmolLM2's tokenizer; the weights are drawn by each side."""
    folder.mkdir()
    prepare_model("smollm2-135m", folder)
    (folder / "config.json").write_text(json.dumps(SHAPES[shape]))


def run_all(
    options: argparse.Namespace, work: Path
) -> tuple[dict[str, list[float]], dict[str, dict]]:
    """Return the seconds of every step of every side, and what each side printed at its end."""
    sides = all_sides(options, work)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    runners: list[Runner] = []
    try:
        for name, (command, environment) in sides.items():
            runners.append(Runner(name, command, environment))
            for _ in range(WARM_UP_STEPS):
                runners[-1].step()
        for _ in range(options.rounds):
            for runner in runners:
                seconds[runner.name].append(runner.step())
                print(f"{runner.name}: {seconds[runner.name][-1]:.2f} s, alone", file=sys.stderr)
        return seconds, {runner.name: runner.finish() for runner in runners}
    finally:
        for runner in runners:
            runner.kill()


def all_sides(
    options: argparse.Namespace, work: Path
) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Name, command and environment of everything that is compared."""
    sides: dict[str, tuple[list[str], dict[str, str]]] = {}
    for micro in options.plain_micro_batch:
        command = step_command(options, work, "plain_step.py", micro)
        name = f"plain PyTorch, micro-batch {micro}, allocator tuned"
        sides[name] = (command, TUNED)
        if options.huge_pages:
            sides[f"{name}, huge pages"] = (command, TUNED | HUGE)
        if options.compile:
            sides[f"{name}, torch.compile"] = ([*command, "compile"], TUNED)
    for peer in options.peer:
        offload = "cpu" if peer == "deepspeed-cpu" else f"nvme:{work / 'nvme'}"
        command = step_command(options, work, "deepspeed_step.py", options.peer_micro_batch)
        name = f"DeepSpeed ZeRO-3, optimizer on {offload.partition(':')[0]}, allocator tuned"
        sides[name] = ([*command, offload], TUNED | DEEPSPEED)
    sides[f"outsize, {options.memory}"] = (outsize_command(options, work, len(sides) + 1), {})
    return sides


def step_command(options: argparse.Namespace, work: Path, script: str, micro: int) -> list[str]:
    return [
        sys.executable, str(HERE / script), str(work / "model"), str(work / "data"),
        str(WARM_UP_STEPS + options.rounds), str(micro), str(options.tokens_per_step),
    ]  # fmt: skip


def outsize_command(options: argparse.Namespace, work: Path, num_sides: int) -> list[str]:
    arguments = train_arguments(
        options,
        work / "model" / "config.json",
        work / "run",
        steps=WARM_UP_STEPS + options.rounds,
        commit_seconds=COMMIT_SECONDS * num_sides,
    )
    train = [sys.executable, "-m", "outsize", *arguments]
    if os.geteuid() == 0 and Path("/sys/fs/cgroup/memory").is_dir():
        return [sys.executable, str(HERE / "in_cgroup.py"), options.memory, *train]
    return train


def report(
    options: argparse.Namespace,
    seconds: dict[str, list[float]],
    results: dict[str, dict],
    share: Callable[[float], str],
) -> None:
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    *others, _ = medians
    plain = [name for name in others if name.startswith("plain")]
    best = min(plain or others, key=medians.__getitem__)
    lines = [
        f"# {options.shape}: streamed against in memory, {datetime.date.today()}",
        "",
        f"`python bench/train_vs_inmemory.py {' '.join(sys.argv[1:])}`",
        "",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{options.rounds} steps each, in turn, {options.tokens_per_step} tokens a step. The "
        f"ratio is the median of the steps' ratios to the step of the same round of: {best}.",
        "",
        "| run | tokens/s, median (least to most) | ratio | of the matrix rate | peak |",
        "| --- | --- | --- | --- | --- |",
    ]
    tokens = options.tokens_per_step
    for name, found in seconds.items():
        ratios = [theirs / own for theirs, own in zip(seconds[best], found, strict=True)]
        rate = tokens / medians[name]
        lines.append(
            f"| {name} | {rate:.0f} ({tokens / max(found):.0f} to {tokens / min(found):.0f}) | "
            f"{statistics.median(ratios):.2f} | {share(rate)} | "
            f"{format_bytes(peak_bytes(results[name]))} |"
        )
    lines += details([*results.values()][-1])
    against = "" if plain else "".join(f"-{peer}" for peer in options.peer)
    name = f"train-vs-inmemory-{options.shape}-{options.tokens_per_step}-{options.memory}"
    name += f"{against}.md"
    path = HERE / "results" / name
    path.write_text("\n".join(lines) + "\n")
    print(path.read_text())


def matrix_share(options: argparse.Namespace, config: Path) -> Callable[[float], str]:
    """What part of the machine's best bfloat16 rate so many tokens a second are, counted as 6
    operations a token for each element of a matrix that it is multiplied with, and 6 x length x
    width a block for causal attention.
    """
    if not profile_path().exists():
        return lambda tokens_per_s: "-"
    rates = load_profile(profile_path()).host.matmul
    best = max(rate.flops_per_s for rate in rates if rate.dtype == "bfloat16")
    spec = know_model(str(config)).spec
    layers = spec.layers
    width = spec.attention_heads * spec.attention_head_size
    products = 6 * sum(
        tensor.num_elements
        for layer in layers[1:-1]
        for tensor in layer.tensors
        if len(tensor.shape) == 2
    )
    head = 6 * spec.vocab_size * spec.hidden_size
    attention = 6 * options.seq_length * width * (len(layers) - 2)
    per_token = products + head + attention
    return lambda tokens_per_s: f"{per_token * tokens_per_s / best:.0%}"


def details(result: dict) -> list[str]:
    gib = 2**30
    return [
        "",
        "Outsize: predicted peak "
        f"{format_bytes(result['predicted_peak_bytes']['host'])}, "
        f"measured {format_bytes(result['measured_peak_bytes']['host'])}; "
        f"predicted step {result['predicted_step_s']:.2f} s, of it "
        f"{result['predicted_exposed_io_s']:.2f} s waiting for the disk; "
        f"{result['bytes_read'] / result['steps'] / gib:.2f} GiB read and "
        f"{result['bytes_written'] / result['steps'] / gib:.2f} GiB written a step, the first "
        "state included.",
    ]


def peak_bytes(result: dict) -> int:
    return result["peak_bytes"] if "peak_bytes" in result else result["measured_peak_bytes"]["host"]


if __name__ == "__main__":
    main()
