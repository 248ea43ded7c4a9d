"""The trainers' spellings; `training_arguments.txt` lists the fields of Transformers 5.23."""

from pathlib import Path

import pytest

from outsize.cli.huggingface import combine, override, translate
from outsize.cli.trainer_names import ACCEPTED, COMBINED, RENAMED
from outsize.errors import UsageError
from outsize.fields import fields_of
from outsize.train.options import TrainOptions

_KEYS = {field.key for field in fields_of(TrainOptions)}


def _read(settings: dict[str, object]) -> dict[str, object]:
    return combine(translate(settings))


def test_every_training_argument_has_a_decision() -> None:
    names = (Path(__file__).parent / "training_arguments.txt").read_text().split()
    decided = _KEYS | RENAMED.keys() | set(COMBINED) | ACCEPTED.keys()
    assert len(names) > 100
    assert set(names) <= decided


def test_the_tables_do_not_overlap_and_lead_to_our_options() -> None:
    tables = (set(RENAMED), set(COMBINED), set(ACCEPTED), _KEYS)
    assert len(set().union(*tables)) == sum(len(table) for table in tables)
    assert set(RENAMED.values()) <= _KEYS | set(COMBINED)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"max_steps": "20"}, {"steps": 20}),
        ({"max_steps": 20, "num_train_epochs": 3}, {"steps": 20}),
        ({"max_steps": -1, "num_train_epochs": 3}, {"epochs": 3}),
        ({"output_dir": "o"}, {"output": "o"}),
        ({"warmup_steps": 0.1}, {"warmup_ratio": 0.1}),
        ({"warmup_steps": "10"}, {"warmup_steps": "10"}),
        ({"bf16": True}, {"dtype": "bfloat16"}),
        ({"bf16": "false"}, {"dtype": "float32"}),
        ({"fp32": True}, {"dtype": "float32"}),
        ({"optim": "sgd"}, {"optim": "sgd"}),
        ({"optim": "adamw_torch_fused"}, {"optim": "adamw_torch"}),
        ({"gradient_checkpointing": "True"}, {}),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": False}}, {}),
        ({"gradient_checkpointing_kwargs": '{"use_reentrant": false}'}, {}),
        ({"report_to": "none"}, {}),
        ({"report_to": []}, {}),
        ({"label_smoothing_factor": "0.0"}, {}),
        ({"dataloader_num_workers": 0}, {}),
        ({"logging_steps": 1}, {}),
        ({"data_seed": 7, "seed": 7}, {"seed": 7}),
        ({"data_seed": None}, {}),
        ({"eval_strategy": False}, {}),
        (
            {"eval_strategy": "steps", "eval_steps": 5, "validation_file": "v"},
            {"evaluation_steps": 5, "evaluation_data": "v"},
        ),
        ({"completion_only_loss": True}, {"train_on": "answer"}),
        (
            {"per_device_train_batch_size": "2", "gradient_accumulation_steps": "4"},
            {"micro_batch_size": 2, "tokens_per_step": 8192, "max_seq_length": 1024},
        ),
        (
            {"per_device_train_batch_size": 2, "max_length": 128},
            {"micro_batch_size": 2, "tokens_per_step": 256, "max_seq_length": 128},
        ),
        (
            {"gradient_accumulation_steps": 2, "tokens_per_step": 4096},
            {"micro_batch_size": 2, "tokens_per_step": 4096, "max_seq_length": 1024},
        ),
        (
            {"per_device_train_batch_size": 1, "tokens_per_step": 4096},
            {"micro_batch_size": 1, "tokens_per_step": 4096, "max_seq_length": 1024},
        ),
    ],
)
def test_spellings_that_mean_the_same_are_read(
    theirs: dict[str, object], ours: dict[str, object]
) -> None:
    assert _read(theirs) == ours


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fp16": True}, r"fp16=True cannot be honoured: compute is bfloat16 or float32"),
        (
            {"optim_args": "a=1"},
            r"optim_args=a=1 cannot be honoured: the optimizers",
        ),
        ({"report_to": "wandb"}, r"report_to=wandb cannot be honoured: no tracker"),
        ({"gradient_checkpointing": False}, "layers are always recomputed"),
        ({"save_steps": 500}, r"save_steps=500 cannot be honoured: a run commits by time"),
        ({"logging_steps": 10}, "every step is reported"),
        ({"deepspeed": "ds.json"}, "one process on one machine"),
        ({"per_device_eval_batch_size": 8}, r"how many rows pass at once\. Leave it out\.$"),
        ({"steps": 5, "max_steps": 6}, "steps is given twice, as 5 and by max_steps as 6"),
        ({"dtype": "float32", "bf16": True}, "dtype is given twice, as float32 and by bf16"),
        ({"max_steps": "many"}, "max_steps must be a whole number"),
        ({"data_seed": 7}, "data_seed=7 cannot be honoured: seed decides"),
        ({"gradient_accumulation_steps": 4}, "needs per_device_train_batch_size"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1"),
        (
            {
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 4,
                "tokens_per_step": 4096,
            },
            r"tokens_per_step=4096 contradicts .*: 2 rows x 4 x max_seq_length 1024 are 8192",
        ),
        (
            {"gradient_accumulation_steps": 3, "tokens_per_step": 4096},
            "1 rows x 3 x max_seq_length 1024 are 3072 tokens",
        ),
        (
            {"per_device_train_batch_size": 2, "micro_batch_size": 4},
            "per_device_train_batch_size=2 contradicts micro_batch_size=4",
        ),
        ({"eval_strategy": "epoch"}, "eval_strategy=epoch cannot be honoured"),
        ({"eval_strategy": "steps"}, "needs eval_steps"),
        ({"eval_strategy": "no", "evaluation_data": "v"}, "contradicts evaluation_data"),
    ],
)
def test_what_cannot_be_honoured_is_an_error(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _read(settings)


def test_the_command_line_wins_also_over_what_it_excludes() -> None:
    file: dict[str, object] = {"epochs": 3, "seed": 1, "gradient_accumulation_steps": 4}
    line: dict[str, object] = {"steps": "5", "tokens_per_step": "2048"}
    assert override(file, line) == {"seed": 1, "steps": "5", "tokens_per_step": "2048"}
