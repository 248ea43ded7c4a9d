"""The other end of `fork_server.py`: ask for runs of a tiny model, some of which are killed."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outsize.train.verify.token_rows import write_token_rows

NUM_STEPS = 30
NUM_KILLS = 20
MOST_CALLS = 80
"""Of the drive before a kill: an import and two steps make about as many."""
FIRST_COMMIT_CALLS = 40

SEQ_LENGTH = 16
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 67,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
SPAN_ELEMENTS = 640
STREAMED_BYTES, RESIDENT_BYTES = 100 * 2**10, 2**30


@dataclass
class Server:
    process: "subprocess.Popen[str]"

    def train(
        self,
        folder: Path,
        *,
        stop_at: int | None = None,
        how: str = "before",
        only: str | None = None,
        arena_bytes: int = STREAMED_BYTES,
        weights: str | None = None,
        **options: object,
    ) -> dict[str, Any]:
        """Train or resume in a process of its own and return what became of it."""
        request = {
            "folder": str(folder),
            "stop_at": stop_at,
            "how": how,
            "only": only,
            "arena_bytes": arena_bytes,
            "span_elements": SPAN_ELEMENTS,
            "weights": weights,
            "options": OPTIONS | options,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        assert "bug" not in answer, answer["bug"]
        return answer


OPTIONS: dict[str, object] = {
    "model": "tiny",
    "data": "token rows",
    "steps": NUM_STEPS,
    "tokens_per_step": 4 * SEQ_LENGTH,
    "max_seq_length": SEQ_LENGTH,
    "micro_batch_size": 2,
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "commit_seconds": 0.0,
}


def make_folder(path: Path) -> Path:
    """Return a run folder with config and rows, as `launch` leaves it."""
    (path / "model").mkdir(parents=True)
    (path / "model" / "config.json").write_text(json.dumps(CONFIG))
    write_token_rows(
        path / "data",
        num_rows=13,
        seq_length=SEQ_LENGTH,
        vocab_size=int(str(CONFIG["vocab_size"])),
        seed=5,
    )
    return path


def losses_in(folder: Path) -> list[float]:
    """Return the losses that a run has written, one of each step."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]
