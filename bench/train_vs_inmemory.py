"""Is streamed training as fast as training in memory? Both in turn, A B A B, in one run.

    python bench/train_vs_inmemory.py smollm2-135m --memory 1GiB [--rounds 3] [--steps 4]

Builds random weights of a shape, then runs plain PyTorch at its best (allocator tuned, huge pages),
the peers that `--peer` names, and `outsize train` inside a memory control group of the budget's
size, in turn, each in its own process, on the same rows, without clipping. Writes a table to
bench/results. Needs root for the control group; without it the budget is Outsize's own. The share
of the matrix rate needs a profile (`outsize probe`).
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
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
        runs = run_all(options, work)
    report(options, runs, share)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--tokens-per-step", type=int, default=4096)
    parser.add_argument("--seq-length", type=int, default=1024)
    parser.add_argument("--plain-micro-batch", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument(
        "--peer", nargs="*", default=[], choices=["deepspeed-cpu", "deepspeed-nvme"]
    )
    parser.add_argument("--peer-micro-batch", type=int, default=2)
    parser.add_argument("--without-huge-pages", action="store_true")
    parser.add_argument("--train", default="", help="more options of `outsize train`")
    parser.add_argument("--work", default=None)
    return parser.parse_args()


def make_model(shape: str, folder: Path) -> None:
    """Write a config and SmolLM2's tokenizer; the weights are drawn by each side."""
    folder.mkdir()
    prepare_model("smollm2-135m", folder)
    (folder / "config.json").write_text(json.dumps(SHAPES[shape]))


def run_all(options: argparse.Namespace, work: Path) -> dict[str, list[dict]]:
    sides = all_sides(options, work)
    runs: dict[str, list[dict]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name, (command, environment) in sides.items():
            print(f"round {number + 1}: {name}", file=sys.stderr)
            for folder in ("run", "nvme"):
                shutil.rmtree(work / folder, ignore_errors=True)
            runs[name].append(run(command, environment))
    return runs


def all_sides(
    options: argparse.Namespace, work: Path
) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Name, command and environment of everything that is compared."""
    sides: dict[str, tuple[list[str], dict[str, str]]] = {}
    for micro in options.plain_micro_batch:
        command = step_command(options, work, "plain_step.py", micro)
        name = f"plain PyTorch, micro-batch {micro}, allocator tuned"
        sides[name] = (command, TUNED)
        if not options.without_huge_pages:
            sides[f"{name}, huge pages"] = (command, TUNED | HUGE)
    for peer in options.peer:
        offload = "cpu" if peer == "deepspeed-cpu" else f"nvme:{work / 'nvme'}"
        command = step_command(options, work, "deepspeed_step.py", options.peer_micro_batch)
        name = f"DeepSpeed ZeRO-3, optimizer on {offload.partition(':')[0]}, allocator tuned"
        sides[name] = ([*command, offload], TUNED | DEEPSPEED)
    sides[f"outsize, {options.memory}"] = (outsize_command(options, work), {})
    return sides


def step_command(options: argparse.Namespace, work: Path, script: str, micro: int) -> list[str]:
    return [
        sys.executable, str(HERE / script), str(work / "model"), str(work / "data"),
        str(options.steps), str(micro), str(options.tokens_per_step),
    ]  # fmt: skip


def outsize_command(options: argparse.Namespace, work: Path) -> list[str]:
    train = [
        sys.executable, "-m", "outsize", "train", str(work / "model" / "config.json"),
        "--tokenizer", str(work / "model"), "--data", "builtin:python-reference",
        "--memory", options.memory, "--steps", str(options.steps),
        "--tokens-per-step", str(options.tokens_per_step),
        "--max-seq-length", str(options.seq_length), "--max-grad-norm", "0",
        "--output", str(work / "run"), *options.train.split(),
    ]  # fmt: skip
    if os.geteuid() == 0 and Path("/sys/fs/cgroup/memory").is_dir():
        return [sys.executable, str(HERE / "in_cgroup.py"), options.memory, *train]
    return train


def run(command: list[str], environment: dict[str, str]) -> dict:
    done = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def report(
    options: argparse.Namespace, runs: dict[str, list[dict]], share: Callable[[float], str]
) -> None:
    rows = []
    for name, results in runs.items():
        speeds = [speed(options, r) for r in results]
        rows.append((name, statistics.median(speeds), min(speeds), max(speeds), results))
    best = max(median for name, median, *_ in rows if name.startswith("plain"))
    lines = [
        f"# {options.shape}: streamed against in memory, {datetime.date.today()}",
        "",
        f"`python bench/train_vs_inmemory.py {' '.join(sys.argv[1:])}`",
        "",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{options.rounds} rounds in turn, {options.steps} steps each, "
        f"{options.tokens_per_step} tokens a step.",
        "",
        "| run | tokens/s, median (least to most) | against the best plain | of the matrix rate "
        "| peak |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, median, least, most, results in rows:
        lines.append(
            f"| {name} | {median:.0f} ({least:.0f} to {most:.0f}) | {median / best:.2f} | "
            f"{share(median)} | {format_bytes(max(map(peak_bytes, results)))} |"
        )
    lines += details(rows[-1][-1])
    name = f"train-vs-inmemory-{options.shape}-{options.tokens_per_step}-{options.memory}.md"
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


def details(results: list[dict]) -> list[str]:
    last = results[-1]
    gib = 2**30
    return [
        "",
        "Outsize, last round: predicted peak "
        f"{format_bytes(last['predicted_peak_bytes']['host'])}, "
        f"measured {format_bytes(last['measured_peak_bytes']['host'])}; "
        f"predicted step {last['predicted_step_s']:.2f} s, "
        f"measured {last['measured_step_s']:.2f} s; "
        f"exposed I/O {last['exposed_io_s']:.2f} s a step; "
        f"{last['bytes_read'] / last['steps'] / gib:.2f} GiB read and "
        f"{last['bytes_written'] / last['steps'] / gib:.2f} GiB written a step, the first state "
        "included.",
    ]


def speed(options: argparse.Namespace, result: dict) -> float:
    step_s = result["step_s"] if "step_s" in result else result["measured_step_s"]
    return options.tokens_per_step / step_s


def peak_bytes(result: dict) -> int:
    return result["peak_bytes"] if "peak_bytes" in result else result["measured_peak_bytes"]["host"]


if __name__ == "__main__":
    main()
