"""`outsize plan train` from the command line, on a config alone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import outsize
from outsize.cli import main
from outsize.machines.catalogue import catalogue_machine
from outsize.machines.profile_file import load_profile, profile_path, save_profile
from outsize.plan.step_plan import StepPlan
from outsize.spec.machine import MachineProfile
from outsize.store.budget import host_limits
from outsize.train.data.estimate import estimate_tokens

MIB = 2**20
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2000,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}
REFERENCE = "builtin:python-reference"
STEP = ("--tokens-per-step", "2048", "--max-seq-length", "512")


class Verb:
    """Runs the verb in this process and checks what every answer must be."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def __call__(self, *arguments: object, model: str = "model") -> tuple[int, dict[str, Any]]:
        before = self.files()
        code = main(["plan", "train", model, *map(str, arguments)])
        out, self.err = self.capsys.readouterr()
        assert "Traceback" not in self.err
        assert len(out.splitlines()) == 1
        if code:
            assert self.files() == before
        return code, json.loads(out)

    def files(self) -> dict[Path, tuple[int, int]]:
        """Everything in the folder and in the tests' home."""
        home = Path(os.environ["OUTSIZE_HOME"])
        found = [*self.folder.rglob("*"), *home.rglob("*")]
        return {p: (p.lstat().st_size, p.lstat().st_mtime_ns) for p in found}

    def result(self, *arguments: object, **changes: str) -> dict[str, Any]:
        code, body = self(*STEP, *arguments, **changes)
        assert code == 0, body
        return body

    def refused(self, *arguments: object, **changes: str) -> dict[str, Any]:
        code, body = self(*STEP, *arguments, **changes)
        assert (code, list(body)) == (2, ["error"])
        assert body["error"]["message"] in self.err
        return dict(body["error"])


def smallest(verb: Verb, *arguments: str) -> int:
    """The least budget that any plan fits."""
    return int(verb.refused("--memory", "1MiB", *arguments)["needed_bytes"])


def between(verb: Verb, *arguments: str) -> int:
    """A budget that has a plan and does not hold everything."""
    return (smallest(verb, *arguments) + verb.result(*arguments)["everything_bytes"]) // 2


@pytest.fixture
def verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Verb]:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    yield Verb(tmp_path, capsys)
    assert not (tmp_path / "runs").exists()


def test_a_plan_leaves_nothing_and_its_numbers_agree(verb: Verb) -> None:
    budget_bytes = between(verb)
    before = verb.files()
    body = verb.result("--memory", budget_bytes, "--steps", 3, "--data", REFERENCE)
    assert verb.files() == before
    assert body["command"] == "plan"
    assert body["budget_bytes"]["host"] == budget_bytes
    peak = body["predicted_peak_bytes"]
    assert sum(body["host_bytes"].values()) == peak["host"] <= budget_bytes
    assert sum(body["disk_bytes"].values()) == peak["disk"] <= body["budget_bytes"]["disk"]
    assert sum(body["activations"].values()) == 2
    assert body["micro_batch_size"] * body["num_micro_batches"] * 512 == 2048
    assert body["num_elements"] > 10**6
    assert len(body["gains"]) == 3
    assert body["frontier"] == []
    assert "host peak" in verb.err


def test_the_function_gives_what_the_command_prints(verb: Verb) -> None:
    body = verb.result("--memory", "1GiB", "--machine", "laptop")
    found = outsize.plan(
        "model", memory="1GiB", machine="laptop", tokens_per_step=2048, max_seq_length=512
    )
    assert json.loads(json.dumps(found.to_json())) == body
    plan = StepPlan.from_text(found.plan)
    assert plan.to_text() == found.plan
    assert 0 < plan.arena_bytes < 2**30


def test_no_library_is_imported(verb: Verb) -> None:
    heavy = ("torch", "transformers", "tokenizers", "datasets", "pyarrow", "huggingface_hub")
    script = (
        "import sys; from outsize.cli import main; "
        f"code = main(['plan', 'train', 'model', '--data', '{REFERENCE}', '--frontier']); "
        f"print(code, [m for m in {heavy!r} if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(outsize.__file__).parents[1])}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_a_config_file_alone_is_a_model(verb: Verb) -> None:
    body = verb.result("--machine", "laptop", model="model/config.json")
    assert body["num_elements"] == verb.result("--machine", "laptop")["num_elements"]


def test_one_token_at_a_time_can_be_planned_for(verb: Verb) -> None:
    code, body = verb("--tokens-per-step", 1, "--max-seq-length", 1, "--machine", "laptop")
    assert code == 0
    assert body["predicted_step_s"] > 0


def test_the_length_of_a_run(verb: Verb) -> None:
    asked = verb.result("--steps", 7, "--data", REFERENCE)["total"]
    assert (asked["steps"], asked["steps_from"]) == (7, "asked for")
    rows = estimate_tokens(REFERENCE, max_seq_length=512).rows
    assert rows is not None
    body = verb.result("--data", REFERENCE)
    once = body["total"]
    assert once["steps"] == -(-rows // 4)
    assert once["steps_from"] == f"about {rows:,} rows of data"
    thrice = verb.result("--data", REFERENCE, "--epochs", 2.5)["total"]
    assert thrice["steps"] == -(-rows * 5 // (2 * 4))
    more = thrice["steps"] - once["steps"]
    assert thrice["seconds"] > once["seconds"] + 0.99 * more * body["predicted_step_s"]
    assert verb.result()["total"] is None
    assert "name --steps, or --data whose size can be told" in verb.err
    assert verb.result("--data", "org/name")["total"] is None
    assert verb.result("--data", "org/name", "--steps", 2)["total"]["steps"] == 2


def test_what_is_kept_for_evaluation_is_not_trained_on(verb: Verb) -> None:
    whole = verb.result("--data", REFERENCE)["total"]["steps"]
    rest = verb.result("--data", REFERENCE, "--evaluation-fraction", 0.5)["total"]["steps"]
    assert rest == pytest.approx(whole / 2, abs=1)


def test_without_packing_every_chat_has_a_row_of_its_own(verb: Verb) -> None:
    messages = [{"role": role, "content": "x" * 200} for role in ("user", "assistant")]
    (verb.folder / "a.jsonl").write_text((json.dumps({"messages": messages}) + "\n") * 100)
    packed = verb.result("--data", "a.jsonl")
    alone = verb.result("--data", "a.jsonl", "--no-packing")
    assert (packed["total"]["steps"], alone["total"]["steps"]) == (7, 25)  # four rows a step
    role = "tokenizer and data"
    more_bytes = alone["disk_bytes"][role] - packed["disk_bytes"][role]
    assert more_bytes == 75 * (12 * 512 + 4)


def test_evaluations_are_part_of_a_run(verb: Verb) -> None:
    text = ("--data", REFERENCE, "--steps", 10)
    without = verb.result(*text)["total"]
    at_end = verb.result(*text, "--evaluation-fraction", 0.1)
    assert (without["evaluations"], at_end["total"]["evaluations"]) == (0, 1)
    assert at_end["total"]["seconds"] > without["seconds"]
    assert at_end["total"]["bytes_read"] > without["bytes_read"]
    role = "tokenizer and data"
    assert at_end["disk_bytes"][role] == verb.result(*text)["disk_bytes"][role]
    evaluating = (*text, "--evaluation-fraction", 0.1, "--evaluation-steps", 4)
    often = verb.result(*evaluating)["total"]
    assert often["evaluations"] == 3
    assert "10 steps (asked for), 3 evaluations, " in verb.err
    assert often["bytes_read"] > 2.5 * at_end["total"]["bytes_read"]
    assert often["bytes_written"] > at_end["total"]["bytes_written"]
    assert often["not_counted"] is None
    unknown = ("--data", "org/name", "--steps", 10, "--evaluation-fraction", 0.1)
    assert verb.result(*unknown)["total"]["not_counted"] is not None
    assert "the evaluations, whose rows cannot be told" in verb.err


def test_with_an_accelerator_a_short_run_writes_its_state_too(verb: Verb) -> None:
    body = verb.result("--machine", "workstation-24gb", "--steps", 3, model="model/config.json")
    total, state_bytes = body["total"], body["disk_bytes"]["state, two copies"] // 2
    assert body["predicted_bytes_written"] == 0
    assert total["bytes_written"] == 2 * state_bytes  # when it is made, and at the end
    assert total["bytes_read"] == state_bytes
    evaluated = verb.result(
        "--machine", "workstation-24gb", "--steps", 3,
        "--data", REFERENCE, "--evaluation-fraction", 0.1, "--evaluation-steps", 2,
    )["total"]  # fmt: skip
    assert evaluated["evaluations"] == 2
    assert evaluated["bytes_written"] == 3 * state_bytes
    assert evaluated["bytes_read"] > 3 * state_bytes


def test_the_field_that_holds_the_text_can_be_named(verb: Verb) -> None:
    records = [{"body": "All happy families are alike. " * 20, "id": n} for n in range(50)]
    (verb.folder / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    body = verb.result("--data", "a.jsonl", "--text-field", "body")
    assert body["total"]["steps"] == 4
    assert verb.refused("--data", "a.jsonl")["kind"] == "data"


def profile(verb: Verb, name: str = "other.json", **changes: Any) -> MachineProfile:
    """Write the profile of another machine, which was measured."""
    machine = catalogue_machine("laptop")
    values = {
        "name": "colleague",
        "fingerprint": "Another CPU, 64 cores, 512 GiB, torch 9.9",
        "measured_at": "2020-01-02T03:04:05+00:00",
    }
    machine = replace(machine, **(values | changes))
    save_profile(machine, verb.folder / name)
    return machine


def test_a_machine_can_be_a_name_or_a_file(verb: Verb) -> None:
    """A file is of another machine on purpose: neither its fingerprint nor its age matters."""
    laptop = verb.result("--machine", "laptop")
    assert (laptop["machine"], laptop["machine_from"]) == ("laptop", "the catalogue")
    assert laptop["budget_bytes"]["host"] == catalogue_machine("laptop").host.memory_bytes
    made = profile(verb)
    other = verb.result("--machine", "other.json", "--steps", 2)
    assert (other["machine"], other["machine_from"]) == (
        "colleague",
        "measured 2020-01-02 03:04 UTC",
    )
    assert other["layers_from"] == "worked out from the machine's rates"
    assert other["predicted_step_s"] == laptop["predicted_step_s"]
    assert other["budget_bytes"]["disk"] == made.disk.free_bytes
    written, rated = other["total"]["bytes_written"], made.disk.endurance_bytes
    assert other["total"]["wear_fraction"] == written / rated
    worn = verb.result("--machine", "other.json", "--steps", 2, "--endurance", "1GB")["total"]
    assert worn["wear_fraction"] == written / 1e9


def test_a_machine_that_cannot_be_used_is_refused(verb: Verb) -> None:
    profile(verb)
    whole = (verb.folder / "other.json").read_text()
    (verb.folder / "cut.json").write_text(whole[: len(whole) // 2])
    (verb.folder / "negative.json").write_text(whole.replace('"free_bytes": ', '"free_bytes": -'))
    (verb.folder / "folder.json").mkdir()
    (verb.folder / "a-folder").mkdir()
    for name, kind, text in (
        ("cut.json", "machine", "cut.json cannot be used: it is not JSON"),
        ("negative.json", "machine", "free_bytes must be at least 0"),
        ("folder.json", "machine", "folder.json cannot be"),
        ("none.json", "machine", "none.json cannot be read: No such file"),
        ("a-folder", "usage", "There is no machine 'a-folder'"),
        ("lapptop", "usage", "Did you mean laptop?"),
    ):
        error = verb.refused("--machine", name)
        assert error["kind"] == kind
        assert text in error["message"]


def test_a_machine_without_the_dtype_says_which_it_has(verb: Verb) -> None:
    host = catalogue_machine("laptop").host
    rates = tuple(rate for rate in host.matmul if rate.dtype == "bfloat16")
    profile(verb, host=replace(host, matmul=rates))
    error = verb.refused("--machine", "other.json", "--dtype", "float32")
    assert error["kind"] == "machine"
    assert "colleague has no rates of float32 products" in error["message"]
    assert "only of bfloat16; use --dtype bfloat16" in error["message"]
    assert verb.result("--machine", "other.json", "--dtype", "bfloat16")["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("size", "count"),
    [("2GB", 2 * 10**9), ("2GiB", 2**31), ("2g", 2 * 10**9), ("1e9", 10**9), ("1.5GiB", 3 * 2**29),
     ("2_000MiB", None), ("-1", None), ("0", None), ("", None), ("2 GiB per core", None),
     ("nan", None), ("1e30", None), ("lots", None)],
)  # fmt: skip
def test_sizes_follow_the_one_rule(verb: Verb, size: str, count: int | None) -> None:
    for option in ("--memory", "--disk"):
        if count is not None:
            tier = "host" if option == "--memory" else "disk"
            assert verb.result(option, size, "--machine", "laptop")["budget_bytes"][tier] == count
            continue
        error = verb.refused(f"{option}={size}")
        assert error["kind"] == "usage"
        assert f"{option[2:]} must be a size" in error["message"]
        assert "KiB, MiB, GiB, TiB are powers of 1024" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("--micro-batch-size", 3), "usage", "micro_batch_size must divide the 4 rows of a step"),
        (("--micro-batch-size", 8), "usage", "micro_batch_size must divide the 4 rows of a step"),
        (("--micro-batch-size", 0), "usage", "micro_batch_size must be a whole number of at least"),
        (("--chart", "x.pdf"), "usage", "--chart draws a PNG; name a file that ends in .png"),
        (("--chart", "no-folder/x.png"), "usage", "cannot be written; name a file in a folder"),
        (("--chart", "."), "usage", "--chart draws a PNG"),
        (("--endurance=0",), "usage", "endurance must be a size"),
        (("--endurance=-1",), "usage", "endurance must be a size"),
        (("--steps", 3, "--epochs", 1), "usage", "steps and epochs exclude each other"),
        (("--steps", 0), "usage", "steps must be a whole number of at least 1"),
        (("--activations", "some"), "usage", "activations must be one of auto, recompute"),
        (("--objective", "speed"), "usage", "objective must be one of time, memory, writes"),
        (("--tokens-per-step", 1000), "usage", "tokens_per_step must be a multiple of"),
        (("--max-seq-length", 8192, "--tokens-per-step", 8192), "usage", "4096 positions"),
        (("--dtype", "int8"), "usage", "dtype must be one of"),
        (("--data", "nowhere.jsonl"), "data", "nowhere.jsonl"),
        (("--data", "~no-such-user/x.txt"), "data", "There is no data at"),
        (("--data", "x" * 300), "data", "There is no data at"),
        (("--evaluation-data", "nowhere.jsonl"), "data", "nowhere.jsonl"),
        (("--machine", "x" * 300), "usage", "There is no machine"),
        (("--chart", "x" * 300 + ".png"), "usage", "cannot be written; name a file in a folder"),
        (("--epochs", "1e308"), "usage", "epochs must be a number above 0"),
        (("--steps", "9" * 400), "usage", "steps must be a whole number of at least 1"),
        (("--resume", "nowhere"), "run", "nowhere holds no run"),
        (("--mem", "1GiB"), "usage", "mem"),
    ],
)
def test_a_contradiction_is_refused_in_words(verb: Verb, arguments, kind: str, text: str) -> None:
    error = verb.refused(*arguments)
    assert error["kind"] == kind
    assert text in error["message"]


def test_a_model_that_is_not_there_is_refused(verb: Verb) -> None:
    assert verb.refused(model="nowhere")["kind"] == "model"
    (verb.folder / "model" / "config.json").write_text("{")
    assert verb.refused()["kind"] in ("model", "format")
    (verb.folder / "model" / "config.json").write_text('{"model_type": "unheard-of"}')
    assert "unheard-of" in verb.refused()["message"]


def remedied(verb: Verb, error: dict[str, Any], *arguments: str) -> list[str]:
    """Try each remedy of a refusal instead of what it replaces; return their options."""
    assert error["remedies"]
    options = []
    for remedy in error["remedies"]:
        option, value = remedy["change"].split()
        options.append(option)
        rest = list(arguments)
        if option in rest:
            place = rest.index(option)
            rest[place : place + 2] = []
        body = verb.result(*rest, option, value)
        budget = body["budget_bytes"]["host"]
        assert body["predicted_peak_bytes"]["host"] <= budget
        assert remedy["needed_bytes"] <= budget
    return options


@pytest.mark.parametrize("memory", ["1MiB", "250MiB"])
def test_a_budget_below_the_libraries_is_refused_with_what_is_needed(verb: Verb, memory) -> None:
    error = verb.refused("--memory", memory)
    assert (error["kind"], error["tier"]) == ("budget", "host")
    assert error["needed_bytes"] > 300 * MIB
    assert error["contributors"][0]["role"] == "interpreter and libraries"
    assert remedied(verb, error, "--memory", memory)[0] == "--memory"
    needed = verb.result("--memory", error["needed_bytes"])
    assert needed["predicted_peak_bytes"]["host"] <= error["needed_bytes"]
    less = error["needed_bytes"] - 2 * MIB
    assert verb.refused("--memory", less)["needed_bytes"] == error["needed_bytes"]


def test_kept_products_that_do_not_fit_are_refused_with_ways_out(verb: Verb) -> None:
    keep = ("--activations", "keep")
    memory = (smallest(verb) + smallest(verb, *keep)) // 2
    arguments = ("--memory", str(memory), *keep)
    error = verb.refused(*arguments)
    assert error["tier"] == "host"
    options = remedied(verb, error, *arguments)
    assert options[:2] == ["--memory", "--activations"]


def test_a_micro_batch_that_does_not_fit_is_refused_with_ways_out(verb: Verb) -> None:
    large = ("--micro-batch-size", "4")
    memory = (smallest(verb) + smallest(verb, *large)) // 2
    arguments = ("--memory", str(memory), *large)
    options = remedied(verb, verb.refused(*arguments), *arguments)
    assert options[:2] == ["--memory", "--micro-batch-size"]


def test_rows_that_do_not_fit_are_refused_with_shorter_ones(verb: Verb) -> None:
    half = smallest(verb, "--max-seq-length", "256")
    arguments = ("--memory", str((smallest(verb) + half) // 2))
    options = remedied(verb, verb.refused(*arguments), *arguments)
    assert options == ["--memory", "--max-seq-length"]


def test_a_disk_that_is_too_small_is_refused_with_what_is_needed(verb: Verb) -> None:
    error = verb.refused("--disk", "5MB")
    assert (error["kind"], error["tier"], error["budget_bytes"]) == ("budget", "disk", 5_000_000)
    change = error["remedies"][0]["change"].split()
    assert change[0] == "--disk"
    assert verb.result(*change)["predicted_peak_bytes"]["disk"] == error["needed_bytes"]
    assert verb.result("--disk", error["needed_bytes"])


def test_the_disk_budget_is_what_is_free_and_not_what_lies_there(verb: Verb) -> None:
    big = verb.folder / "other-work" / "big.bin"
    big.parent.mkdir()
    with big.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 512 * MIB)
    found = verb.result()["budget_bytes"]["disk"]
    status = os.statvfs(verb.folder)
    big.unlink()
    assert abs(found - status.f_bavail * status.f_frsize) < 256 * MIB


def test_the_default_budget_is_what_is_free(verb: Verb) -> None:
    found = verb.result()["budget_bytes"]["host"]
    free = host_limits().free_bytes
    assert 0.8 * free < found < free


def test_each_objective_is_best_at_its_own(verb: Verb) -> None:
    budget = between(verb, "--machine", "laptop")
    bodies = {
        name: verb.result("--memory", budget, "--objective", name, "--machine", "laptop")
        for name in ("time", "memory", "writes")
    }
    keys = {
        "time": lambda body: body["predicted_step_s"],
        "memory": lambda body: body["predicted_peak_bytes"]["host"],
        "writes": lambda body: body["predicted_bytes_written"],
    }
    for objective, key in keys.items():
        assert bodies[objective]["objective"] == objective
        # Of the plans of one objective the chosen one is within five percent of the best.
        assert key(bodies[objective]) <= 1.05 * min(map(key, bodies.values()))


@pytest.mark.parametrize("activations", ["recompute", "offload", "keep"])
def test_what_blocks_do_can_be_fixed(verb: Verb, activations: str) -> None:
    found = verb.result("--activations", activations, "--memory", "1GiB")["activations"]
    assert found["recomputed"] == (2 if activations == "recompute" else 0)
    assert activations != "keep" or found["offloaded"] == 0


def test_the_frontier_in_words_and_as_a_picture(verb: Verb) -> None:
    budget = between(verb, "--machine", "laptop")
    body = verb.result("--memory", budget, "--chart", "x.png", "--machine", "laptop")
    assert "blocks: kept in memory / taken to disk / computed again" in verb.err
    points = body["frontier"]
    budgets = [point["budget_bytes"] for point in points]
    assert budgets == sorted(set(budgets))
    assert len(budgets) >= 6
    assert all(point["host_bytes"] <= point["budget_bytes"] for point in points)
    assert points[-1]["bytes_written"] == points[-1]["bytes_read"] == 0
    assert budgets[-1] == body["everything_bytes"]
    assert budgets[0] == smallest(verb, "--machine", "laptop")
    for point in points:
        asked = verb.result("--memory", point["budget_bytes"], "--machine", "laptop")
        assert asked["predicted_step_s"] == point["step_s"]
        assert asked["micro_batch_size"] == point["micro_batch_size"]
    content = (verb.folder / "x.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(content[i : i + 4]) for i in (16, 20))
    assert 400 <= width <= 4000
    assert 300 <= height <= 3000


def test_a_frontier_with_an_accelerator_is_refused_and_not_left_out(verb: Verb) -> None:
    for arguments in (("--frontier",), ("--chart", "x.png")):
        error = verb.refused("--machine", "workstation-24gb", *arguments)
        assert error["kind"] == "usage"
        assert "accelerator" in error["message"]


def test_the_machine_at_hand_is_the_saved_one(verb: Verb) -> None:
    body = verb.result("--memory", "1GiB")
    assert body["machine"] == load_profile(profile_path()).name
    assert body["machine_from"].startswith("measured ")
