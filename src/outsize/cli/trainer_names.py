"""The options of the Hugging Face trainers, and what becomes of each here. Data only.

Every field of `TrainingArguments` is either renamed, read by `huggingface.py` with care, or
accepted with the values that ask for what happens anyway; any other value of it is an error that
says why it cannot be honoured.
"""

from dataclasses import dataclass

RENAMED = {
    "model_name_or_path": "model",
    "tokenizer_name": "tokenizer",
    "tokenizer_name_or_path": "tokenizer",
    "dataset_name": "data",
    "dataset_name_or_path": "data",
    "train_file": "data",
    "validation_file": "evaluation_data",
    "dataset_text_field": "text_field",
    "output_dir": "output",
    "num_train_epochs": "epochs",
    "max_length": "max_seq_length",
    "block_size": "max_seq_length",
    "eval_steps": "evaluation_steps",
    "evaluation_strategy": "eval_strategy",
    "resume_from_checkpoint": "resume",
}
"""Same meaning under another name."""

COMBINED = (
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "eval_strategy",
    "data_seed",
    "bf16",
    "fp32",
    "completion_only_loss",
    "assistant_only_loss",
)
"""Read by `huggingface.py`, because their meaning depends on the value or on each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An option that changes nothing here.

    Attributes:
        values: what may be asked for; None stands for empty, `none` and an empty list too.
        why: completes the sentence "cannot be honoured: ...".
    """

    values: tuple[object, ...]
    why: str


_COMMITS = "a run commits by time (commit_seconds) and at its end, and keeps one state"
_ONE_PROCESS = "a run is one process on one machine"
_TRACKERS = "no tracker is attached; the last line on stdout is JSON"
_HUB = "nothing is uploaded; run `outsize export` and upload the folder"
_RECOMPUTE = "layers are always recomputed in the backward, which changes no result"
_DATA = "data is tokenised once and read from a memory map, in a seeded random order"
_EVALUATION = "evaluation gives the loss; the planner chooses how many rows pass at once"
_LOGGING = "every step is reported, on stderr"
_PRECISION = "compute is bfloat16 or float32 with float32 masters and moments; use dtype"
_COMPILE = "layers run as Transformers wrote them, so that the result stays equal to plain PyTorch"
_LOSS = "the loss is the plain cross-entropy, mean over the tokens of a step"
_OPTIMIZER = "the optimizers are those of optim, and take no options but those of this verb"


def _rows(why: str, **values: tuple[object, ...]) -> dict[str, Accepted]:
    return {name: Accepted(values=accepted, why=why) for name, accepted in values.items()}


ACCEPTED: dict[str, Accepted] = {
    **_rows(
        _OPTIMIZER,
        optim_args=(None,),
        optim_target_modules=(None,),
        adafactor=(False,),
        lr_scheduler_kwargs=(None,),
    ),
    **_rows(
        _LOSS,
        label_smoothing_factor=(0,),
        neftune_noise_alpha=(None,),
        label_names=(None,),
        average_tokens_across_devices=(True, False),
        prediction_loss_only=(True, False),
        use_cache=(False,),
    ),
    **_rows(
        _PRECISION,
        fp16=(False,),
        fp16_backend=(None, "auto"),
        fp16_opt_level=(None,),
        half_precision_backend=(None, "auto"),
        bf16_full_eval=(False,),
        fp16_full_eval=(False,),
        tf32=(None, False),
    ),
    **_rows(
        _RECOMPUTE,
        gradient_checkpointing=(None, True),
        gradient_checkpointing_kwargs=(None, "{'use_reentrant': false}", "{'use_reentrant': true}"),
        activation_checkpointing=(None, True),
        activation_checkpointing_kwargs=(None,),
    ),
    **_rows(
        _COMPILE,
        torch_compile=(False,),
        torch_compile_backend=(None,),
        torch_compile_mode=(None,),
        use_liger_kernel=(False,),
        liger_kernel_config=(None,),
        attn_implementation=(None,),
        jit_mode_eval=(False,),
    ),
    **_rows(
        _LOGGING,
        logging_strategy=("steps",),
        logging_steps=(1,),
        logging_first_step=(True, False),
        logging_nan_inf_filter=(True, False),
        logging_dir=(None,),
        log_on_each_node=(True,),
        log_level=("passive",),
        log_level_replica=("warning",),
        disable_tqdm=(None, False),
        include_num_input_tokens_seen=("no", "all", True, False),
        include_tokens_per_second=(True, False),
        skip_memory_metrics=(True, False),
        debug=(None,),
    ),
    **_rows(
        _TRACKERS,
        report_to=(None,),
        run_name=(None,),
        project=(None, "huggingface"),
        trackio_space_id=(None,),
        trackio_bucket_id=(None,),
        trackio_static_space_id=(None, False),
    ),
    **_rows(
        _EVALUATION,
        eval_delay=(0,),
        eval_on_start=(False,),
        eval_accumulation_steps=(None,),
        eval_do_concat_batches=(True,),
        eval_use_gather_object=(False,),
        per_device_eval_batch_size=(),
        include_for_metrics=(None,),
        batch_eval_metrics=(False,),
        metric_for_best_model=(None, "loss"),
        greater_is_better=(None, False),
        load_best_model_at_end=(False,),
        do_predict=(False,),
        do_eval=(False,),
    ),
    **_rows("this verb trains", do_train=(True,)),
    **_rows(
        _COMMITS,
        save_strategy=("steps",),
        save_steps=(),
        save_total_limit=(None, 1),
        save_only_model=(False,),
        save_on_each_node=(False,),
        save_safetensors=(True,),
        enable_jit_checkpoint=(False,),
        restore_callback_states_from_checkpoint=(False,),
    ),
    **_rows(
        "an output folder that holds a run is never overwritten", overwrite_output_dir=(False,)
    ),
    **_rows(
        _HUB,
        push_to_hub=(False,),
        hub_token=(None,),
        hub_private_repo=(None,),
        hub_model_id=(None,),
        hub_strategy=(None, "every_save"),
        hub_always_push=(False,),
        hub_revision=(None,),
    ),
    **_rows(
        _DATA,
        ignore_data_skip=(False,),
        dataloader_drop_last=(False,),
        dataloader_num_workers=(0,),
        dataloader_pin_memory=(True, False),
        dataloader_persistent_workers=(False,),
        dataloader_prefetch_factor=(None,),
        dataloader_multiprocessing_context=(None,),
        dataloader_in_order=(True,),
        remove_unused_columns=(True,),
        train_sampling_strategy=("random",),
        group_by_length=(False,),
        length_column_name=(None, "length"),
    ),
    **_rows("equal runs always give equal results", full_determinism=(True, False)),
    **_rows(
        _ONE_PROCESS,
        local_rank=(-1, 0),
        use_cpu=(True, False),
        no_cuda=(True, False),
        accelerator_config=(None,),
        parallelism_config=(None,),
        ddp_find_unused_parameters=(None,),
        ddp_bucket_cap_mb=(None,),
        ddp_broadcast_buffers=(None,),
        ddp_static_graph=(None,),
        ddp_backend=(None,),
        ddp_timeout=(1800,),
        fsdp=(None,),
        fsdp_config=(None,),
        deepspeed=(None,),
    ),
    **_rows(
        "the plan decides what is kept in memory and how many rows pass at once",
        auto_find_batch_size=(False,),
        torch_empty_cache_steps=(None,),
    ),
}
"""Options whose listed values ask for what happens anyway."""
