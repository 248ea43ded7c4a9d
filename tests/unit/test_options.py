import pytest

from outsize.errors import UsageError
from outsize.options import ExportOptions, GenerateOptions, VerifyOptions
from outsize.train.options import TrainOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "d"}, "model is missing: name what to train, or give --resume"),
        ({"model": "m"}, "data is missing: give --data"),
        ({"steps": 1, "epochs": 1.0}, "steps and epochs exclude each other"),
        (
            {"tokens_per_step": 5000},
            r"multiple of max_seq_length=1024; got 5000\. Try .*-step 4096",
        ),
        ({"tokens_per_step": 100}, r"Try --tokens-per-step 1024"),
        ({"micro_batch_size": 3}, r"must divide the 4 rows of a step .*; got 3"),
        ({"warmup_steps": 1, "warmup_ratio": 0.1}, "warmup_steps and warmup_ratio exclude"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 1}, "constant_with_warmup"),
        ({"sgd_momentum": 0.9}, "is for optim=sgd, and optim is adamw_torch"),
        (
            {"optim": "sgd", "adam_beta1": 0.8},
            "is for optim=adamw_torch or adamw_8bit or lion_32bit or lion_8bit, and",
        ),
        ({"optim": "lion_32bit", "adam_epsilon": 1e-6}, "Leave it out, or give --optim adamw_t"),
        ({"evaluation_data": "e", "evaluation_fraction": 0.1}, "exclude each other"),
        ({"evaluation_steps": 5}, "needs --evaluation-data or --evaluation-fraction"),
        ({"max_grad_norm": -1.0}, r"max_grad_norm must be a number of at least 0 and .*; got -1.0"),
        ({"epochs": 1e308}, r"epochs must be a number above 0 and of at most 1e\+15; got 1e\+308"),
        ({"steps": 10**400}, r"steps must be a whole number of at least 1 and .* 1e\+10; got 100"),
        ({"commit_seconds": 1e308}, r"commit_seconds must be a number .* of at most 1e\+15"),
    ],
)
def test_train_options_that_contradict_each_other_are_refused(
    options: dict[str, object], message: str
) -> None:
    whole = options if {"model", "data"} & options.keys() else {"model": "m", "data": "d"} | options
    with pytest.raises(UsageError, match=message):
        TrainOptions(**whole)  # type: ignore[arg-type]


def test_a_resumed_run_needs_only_its_folder() -> None:
    assert TrainOptions(resume="runs/a").model is None


def test_a_dry_run_needs_no_data() -> None:
    assert TrainOptions(model="m", dry_run=True).data is None


def test_the_other_verbs_check_their_options() -> None:
    with pytest.raises(UsageError, match="multiple of max_seq_length=128; got 100"):
        VerifyOptions(model="m", tokens_per_step=100)
    with pytest.raises(UsageError, match="top_p must be a number above 0 and of at most 1"):
        GenerateOptions(model="m", prompt="p", top_p=0.0)
    with pytest.raises(UsageError, match="format must be one of safetensors"):
        ExportOptions(run="r", format="gguf")  # type: ignore[arg-type]
