"""How the help of `train` and of `plan train` orders the options."""

from outsize.cli.verb import Group

TRAIN_GROUPS = (
    Group(
        title="Data",
        keys=(
            "data",
            "tokenizer",
            "max_seq_length",
            "packing",
            "packed_attention",
            "train_on",
            "text_field",
        ),
    ),
    Group(
        title="Budget",
        keys=("memory", "disk", "threads", "micro_batch_size", "activations", "objective"),
    ),
    Group(
        title="Method",
        keys=(
            "method",
            "lora_r",
            "lora_alpha",
            "lora_dropout",
            "target_modules",
            "use_rslora",
            "lora_config",
            "quantization",
        ),
    ),
    Group(title="Length", keys=("steps", "epochs", "tokens_per_step")),
    Group(
        title="Optimizer",
        keys=(
            "learning_rate",
            "lr_scheduler_type",
            "warmup_steps",
            "warmup_ratio",
            "optim",
            "weight_decay",
            "adam_beta1",
            "adam_beta2",
            "adam_epsilon",
            "sgd_momentum",
            "max_grad_norm",
            "dtype",
            "seed",
        ),
    ),
    Group(title="Evaluation", keys=("evaluation_data", "evaluation_fraction", "evaluation_steps")),
    Group(title="Run", keys=("output", "resume", "commit_seconds", "in_place", "dry_run")),
)
