"""The options of a measured run and the `outsize train` command that they ask for."""

import argparse

from shapes import SHAPES


def run_options(description: str) -> argparse.ArgumentParser:
    """Return a parser of what every measured run has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--tokens-per-step", type=int, default=4096)
    parser.add_argument("--seq-length", type=int, default=1024)
    parser.add_argument("--train", default="", help="more options of `outsize train`")
    parser.add_argument("--work", default=None, help="folder for the runs")
    return parser


def train_arguments(
    options: argparse.Namespace, model: object, output: object, *, steps: int, commit_seconds: float
) -> list[str]:
    """Return the arguments of `outsize`: fresh weights, no clipping."""
    return [
        "train", str(model), "--method", "full",
        "--tokenizer", "smollm2-135m", "--data", "builtin:python-reference",
        "--memory", options.memory, "--steps", str(steps),
        "--tokens-per-step", str(options.tokens_per_step),
        "--max-seq-length", str(options.seq_length), "--max-grad-norm", "0",
        "--commit-seconds", str(commit_seconds), "--output", str(output), *options.train.split(),
    ]  # fmt: skip
