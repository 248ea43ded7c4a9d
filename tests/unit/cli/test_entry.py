import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeApi, train_result, verify_result

import outsize
from outsize.cli import main
from outsize.errors import BudgetError
from outsize.options import ExportOptions, GenerateOptions, VerifyOptions
from outsize.plan.roles import Activations
from outsize.results import ExportResult, GenerateResult, TierBytes
from outsize.train.options import TrainOptions
from outsize.train.plan_result import PlanResult

Captured = pytest.CaptureFixture[str]


def _last(capsys: Captured) -> tuple[dict[str, Any], str]:
    out, err = capsys.readouterr()
    return json.loads(out.splitlines()[-1]), err


def test_train_reads_its_options_and_prints_one_object(api: FakeApi, capsys: Captured) -> None:
    assert main(["train", "m", "--data", "d", "--memory", "1GiB", "--max_steps=20"]) == 0
    assert isinstance(api.options, TrainOptions)
    assert (api.options.model, api.options.steps, api.options.memory_bytes) == ("m", 20, 2**30)
    body, err = _last(capsys)
    assert body["command"] == "train"
    assert body["measured_peak_bytes"] == {"host": 2**30 - 2**25, "disk": 2**31}
    assert "step  1/20  loss 3.4750" in err
    assert "predicted" in err
    assert "runs/[m]" in err


def test_the_positional_may_stand_anywhere(api: FakeApi) -> None:
    api.answer = plan_result
    assert main(["train", "--dry-run", "m", "--no-packing", "--seed", "1"]) == 0
    assert (api.options.model, api.options.packing, api.options.dry_run) == ("m", False, True)


def test_the_file_is_read_and_the_command_line_wins(
    api: FakeApi, capsys: Captured, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("model: a\ndata: d\nmax_steps: 9\nseed: 3\nmemory: 2GiB\n")
    assert main(["train", "--config", str(config), "--steps", "5"]) == 0
    assert (api.options.model, api.options.steps, api.options.seed) == ("a", 5, 3)
    assert capsys.readouterr().out


def plan_result() -> PlanResult:
    return PlanResult(
        model="m",
        num_elements=10**6,
        num_trainable=1,
        machine="here",
        machine_from="the catalogue",
        layers_from="worked out",
        objective="time",
        dtype="bfloat16",
        tokens_per_step=4096,
        micro_batch_size=1,
        num_micro_batches=4,
        max_seq_length=1024,
        span_elements=2**20,
        activations=Activations(kept=1, offloaded=0, recomputed=2),
        prefetch_bytes=2**25,
        budget_bytes=TierBytes(host=2**30, disk=2**33),
        predicted_peak_bytes=TierBytes(host=2**29, disk=2**31),
        everything_bytes=2**32,
        host_bytes={"libraries": 2**28, "weights": 2**28},
        disk_bytes={"state": 2**31},
        predicted_step_s=8.0,
        predicted_tokens_per_s=512.0,
        predicted_compute_s=7.0,
        predicted_read_s=7.9,
        predicted_write_s=1.0,
        predicted_exposed_io_s=0.1,
        predicted_bytes_read=2**30,
        predicted_bytes_written=2**29,
        limited_by="read",
        commits_every_step=True,
        commit_seconds=60.0,
        total=None,
        plan="acquire a host 0",
    )


def test_plan_and_a_dry_run_give_the_same_object(api: FakeApi, capsys: Captured) -> None:
    api.answer = plan_result
    assert main(["plan", "train", "m", "--memory", "1GiB"]) == 0
    assert api.options.dry_run
    body, _ = _last(capsys)
    assert (body["command"], body["limited_by"]) == ("plan", "read")
    assert body["host_bytes"] == {"libraries": 2**28, "weights": 2**28}
    assert "plan" not in body
    assert main(["train", "m", "--dry-run"]) == 0
    assert _last(capsys)[0] == body


def test_the_word_train_may_be_left_out_of_a_plan(api: FakeApi, capsys: Captured) -> None:
    api.answer = plan_result
    assert main(["plan", "m", "--frontier"]) == 0
    assert (api.options.model, api.options.frontier) == ("m", True)
    assert main(["plan", "--machine", "laptop", "m"]) == 0
    assert (api.options.model, api.options.machine) == ("m", "laptop")
    assert capsys.readouterr().out


def test_json_alone_prints_nothing_else(api: FakeApi, capsys: Captured) -> None:
    api.answer = plan_result
    assert main(["plan", "train", "m", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["command"], err) == ("plan", "")
    assert main(["--json", "train", "m", "--stpes", "5"]) == 2
    out, err = capsys.readouterr()
    assert (json.loads(out)["error"]["kind"], err) == ("usage", "")


def test_a_plan_says_where_its_chart_is(api: FakeApi, capsys: Captured) -> None:
    api.answer = plan_result
    assert main(["plan", "train", "m", "--chart", "[x].png"]) == 0
    assert api.options.chart == "[x].png"
    assert "chart    [x].png" in _last(capsys)[1]


def test_verify_exits_1_when_a_case_differs(api: FakeApi, capsys: Captured) -> None:
    api.answer = lambda: verify_result(0.0)
    assert main(["verify", "m", "--dtypes", "float32"]) == 0
    assert api.options == VerifyOptions(model="m", dtypes=("float32",))
    body, err = _last(capsys)
    assert body["equal"] is True
    assert "bit for bit equal to plain PyTorch" in err
    api.answer = lambda: verify_result(float("nan"))
    assert main(["verify", "m"]) == 1
    body, err = _last(capsys)
    assert body["equal"] is False
    assert body["cases"][0]["max_difference_weights"] is None
    assert "DIFFERENT from plain PyTorch" in err


def test_export_and_generate_read_theirs(api: FakeApi, capsys: Captured) -> None:
    tiers = TierBytes(host=2**30, disk=0)
    api.answer = lambda: ExportResult(
        run="r",
        step=3,
        output="o",
        format="safetensors",
        dtype="float32",
        num_elements=10,
        num_files=1,
        bytes_written=40,
        budget_bytes=tiers,
        measured_peak_bytes=tiers,
        seconds=1.0,
    )
    assert main(["export", "r", "--dtype", "float32", "--max-shard-size", "2GB"]) == 0
    assert api.options == ExportOptions(run="r", dtype="float32", max_shard_bytes=2 * 10**9)
    assert _last(capsys)[0]["num_elements"] == 10
    api.answer = lambda: GenerateResult(
        model="m",
        prompt="p",
        text="An [answer].",
        chat=True,
        num_prompt_tokens=3,
        num_new_tokens=4,
        stopped_by="end",
        tokens_per_s=9.0,
        budget_bytes=tiers,
        measured_peak_bytes=tiers,
        seconds=1.0,
    )
    assert main(["generate", "m", "--prompt", "p", "--no-chat"]) == 0
    assert api.options == GenerateOptions(model="m", prompt="p", chat=False)
    body, err = _last(capsys)
    assert body["text"] == "An [answer]."
    assert "3 read, 4 written" in err


def test_env_needs_nothing(capsys: Captured) -> None:
    assert main(["env"]) == 0
    body, err = _last(capsys)
    assert body["command"] == "env"
    assert "direct I/O" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Which verb? Try `outsize --help`."),
        (["tran"], "There is no verb 'tran'. Did you mean train?"),
        (["train", "m", "--stpes", "5"], "There is no option '--stpes'. Did you mean --steps?"),
        (["train", "m", "--learning_rte=5"], "Did you mean --learning-rate?"),
        (["train", "m", "extra"], "'extra' is not expected here. Try `outsize train --help`."),
        (["train", "m", "--steps"], "Argument --steps: expected one argument."),
        (["train", "m", "--step", "5"], "Did you mean --steps?"),
        (["train"], "model is missing: name what to train"),
        (["verify"], "model is missing (built-in name, folder"),
        (["verify", "m", "--max_steps", "3"], "There is no option '--max-steps'."),
        (["train", "m", "--data", "d", "--memory", "much"], "memory must be a size"),
        (["train", "m", "--data", "d", "--fp16"], "fp16=true cannot be honoured"),
        (["train", "m", "--config", "none.yaml"], "none.yaml cannot be read"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(
    api: FakeApi, capsys: Captured, arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    assert api.options is None
    body, err = _last(capsys)
    assert body["error"]["kind"] == "usage"
    assert message in body["error"]["message"]
    assert message in err
    assert "Traceback" not in err


def test_an_unknown_key_of_the_file_is_named(
    api: FakeApi, capsys: Captured, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("modle: a\n")
    assert main(["train", "--config", str(config)]) == 2
    assert _last(capsys)[0]["error"]["message"] == (
        "There is no option 'modle'. Did you mean model?"
    )


def test_a_refused_budget_prints_its_numbers(api: FakeApi, capsys: Captured) -> None:
    def refuse() -> None:
        raise BudgetError("Training m", needed_bytes=2048, budget_bytes=1024, tier="host")

    api.answer = refuse
    assert main(["train", "m", "--data", "d"]) == 2
    body, err = _last(capsys)
    assert body["error"]["needed_bytes"] == 2048
    assert "Training m needs 2.00 KiB on host" in err


def test_the_traceback_of_a_mistake_can_be_had(
    api: FakeApi, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTSIZE_DEBUG", "1")
    assert main(["tran"]) == 2
    assert "Traceback" in _last(capsys)[1]


def test_ctrl_c_before_training_exits_130(api: FakeApi, capsys: Captured) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    api.answer = interrupt
    assert main(["train", "m", "--data", "d"]) == 130
    body, err = _last(capsys)
    assert body["error"]["kind"] == "interrupted"
    assert "Interrupted" in err


def test_an_interrupted_run_says_how_to_go_on(api: FakeApi, capsys: Captured) -> None:
    api.answer = lambda: train_result(steps=7, interrupted=True)
    assert main(["train", "m", "--data", "d"]) == 130
    body, err = _last(capsys)
    assert (body["steps"], body["interrupted"]) == (7, True)
    assert "Interrupted after step 7, which is committed." in err
    assert "outsize train --resume 'runs/[m]'" in err


def test_a_bug_says_that_it_is_ours(api: FakeApi, capsys: Captured) -> None:
    def fail() -> None:
        raise ZeroDivisionError("oops")

    api.answer = fail
    assert main(["train", "m", "--data", "d"]) == 1
    body, err = _last(capsys)
    assert body["error"]["kind"] == "bug"
    assert "Traceback" in err
    assert "This is a bug of Outsize" in err
    assert "outsize env" in err


def test_a_loss_that_is_no_number_is_null_in_the_json(api: FakeApi, capsys: Captured) -> None:
    api.answer = lambda: train_result(loss_last=float("nan"))
    assert main(["train", "m", "--data", "d"]) == 0
    assert _last(capsys)[0]["loss_last"] is None


def test_the_module_runs_as_the_command() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(outsize.__file__).parents[1])}
    command = [sys.executable, "-m", "outsize", "tran"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "usage"
    assert done.stderr == "There is no verb 'tran'. Did you mean train?\n"


def test_help_and_version_are_text(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    assert "plan train" in capsys.readouterr().out
    assert main(["plan", "--help"]) == 0
    assert "outsize plan train MODEL [options]" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("outsize 0")


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["plan", "train", "m"]])
def test_output_that_nobody_reads_is_no_bug(words) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "outsize", *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 141
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_stdout_is_no_bug_either() -> None:
    command = f"{sys.executable} -m outsize --version >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
