"""Everything a user can choose about a training run, in one frozen record.

The command line, the YAML file and the Python function all make one of these; `fields.py` reads the
names, types, ranges and help texts from here. No torch. Names follow the Hugging Face trainers
where they mean the same.
"""

from dataclasses import dataclass, field
from typing import Literal

from outsize.errors import UsageError
from outsize.fields import check
from outsize.values import (
    Count,
    CountOrZero,
    Decay,
    Fraction,
    MethodType,
    NonNegative,
    PackedAttention,
    Packing,
    Positive,
)

OptimizerType = Literal["adamw_torch", "adamw_8bit", "lion_32bit", "lion_8bit", "sgd"]
_ADAMW: tuple[OptimizerType, ...] = ("adamw_torch", "adamw_8bit")
_LION: tuple[OptimizerType, ...] = ("lion_32bit", "lion_8bit")
_ONLY_FOR: dict[str, tuple[OptimizerType, ...]] = {
    "adam_beta1": (*_ADAMW, *_LION),
    "adam_beta2": (*_ADAMW, *_LION),
    "adam_epsilon": _ADAMW,
    "sgd_momentum": ("sgd",),
}
_FOR_ADAPTERS = (
    "lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "lora_config",
    "quantization",
)  # fmt: skip
SchedulerType = Literal["linear", "cosine", "constant", "constant_with_warmup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Options of `outsize train` and of `outsize.train`.

    Attributes:
        model: built-in name, folder, GGUF file, config.json (from scratch) or Hub id; may be
            None with `resume`.
        data: file, folder, glob, `builtin:python-reference` or Hub data set id; may be None with
            `resume`.
        tokenizer: folder or Hub id to take the tokenizer from; None takes the model's own.
        memory_bytes: the budget for the whole process on host; None means what is really free.
        disk_bytes: the most that the run folder may take; None means what is free there.
        steps: number of train steps; None means that `epochs` decides.
        epochs: passes over the data; None means one, unless `steps` is given.
        tokens_per_step: tokens of one optimizer step, padding included.
        max_seq_length: tokens of one row.
        method: what is trained: the model's own weights (`full`), or low-rank adapters beside them
            (`lora`), with a magnitude each (`dora`), or beside packed weights (`qlora`), while the
            model is only read. `auto` takes the first of full, lora and qlora that fits the
            budgets, and says what each would take.
        lora_r: rank of each adapter.
        lora_alpha: the adapter is scaled by lora_alpha / lora_r.
        lora_dropout: share of an adapter's inputs that is left out at random in training.
        target_modules: ends of the names of the matrices that get an adapter, for example
            `q_proj,v_proj`; `all-linear` means every matrix of the blocks.
        use_rslora: scale by lora_alpha / sqrt(lora_r) instead.
        quantization: how qlora packs the matrices of the blocks: 4 bits (`nf4`) or 8 (`int8`).
        lora_config: `adapter_config.json` of PEFT, the folder that has one, or its text, in place
            of the options above.
        micro_batch_size: rows that pass through a layer at once; None lets the planner choose.
        dtype: compute dtype; masters and moments are float32 in either case.
        learning_rate: peak learning rate.
        lr_scheduler_type: shape of the learning-rate schedule after warm-up.
        warmup_steps: steps of linear warm-up; None means that `warmup_ratio` decides.
        warmup_ratio: fraction of all steps that warm up.
        optim: optimizer: AdamW (12 bytes of state a trained parameter), Lion (8), or SGD (8, or 4
            without momentum); with moments in 8 bits AdamW takes 6 bytes and Lion 5, and the result
            is not that of moments in 32 bits.
        weight_decay: weight decay; norms and biases are exempt. Decoupled, but for SGD, where it is
            added to the gradient.
        adam_beta1: decay of AdamW's first moment; weight of Lion's momentum in an update.
        adam_beta2: decay of AdamW's second moment, or of Lion's momentum (its paper takes 0.99).
        sgd_momentum: momentum of SGD.
        adam_epsilon: added to the root of the second moment.
        max_grad_norm: global gradient norm to clip to; 0 switches clipping off.
        seed: decides the data order, fresh weights and adapters, and the dropout of adapters.
        output: run folder; None picks `runs/<model>-<date>`.
        resume: run folder to go on with; None starts a new run.
        evaluation_data: data set to evaluate on; None evaluates on `evaluation_fraction` of `data`.
        evaluation_fraction: fraction of the rows that is kept for evaluation (0 to 1).
        evaluation_steps: evaluate after every so many steps; None evaluates at the end only.
        train_on: which tokens carry loss: `answer`, `all`, or `auto` (answers of chats and
            completions, all of text).
        text_field: field of the records that holds the text; None recognises it.
        packing: whether several short examples share a row.
        packed_attention: how attention keeps the examples of a row apart: `masked`, one call over
            the whole row, exactly as Transformers does it, or `split`, one example at a time,
            which leaves out what the mask hides. `split` is faster where examples share rows and
            the same up to rounding (see docs/design.md).
        commit_seconds: at most about so many seconds of work are lost when the process is killed.
        in_place: keep one copy of the training state on disk instead of two, which takes half the
            space. A run that ends or is interrupted with Ctrl-C can go on; one that is killed
            while a step changes the state is lost.
        threads: compute threads; None takes PyTorch's default.
        objective: what the plan is best at: `time` of a step, least host `memory`, or fewest
            `writes` to disk.
        activations: what a block's forward leaves for its backward: `recompute` the products with
            its weights, `offload` them to disk where memory has no room, or `keep` them in memory;
            `auto` decides for each block. The result is the same.
        dry_run: print the plan and its prediction, load no weights.
        given: names of the fields that the user chose; a resumed run takes all others from its
            folder.
    """

    model: str | None = None
    data: str | None = None
    tokenizer: str | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    steps: Count | None = None
    epochs: Positive | None = None
    tokens_per_step: Count = 4096
    max_seq_length: Count = 1024
    method: MethodType = "auto"
    lora_r: Count = 8
    lora_alpha: Positive = 8.0
    lora_dropout: Fraction = 0.0
    target_modules: str = "all-linear"
    use_rslora: bool = False
    quantization: Packing = "nf4"
    lora_config: str | None = None
    micro_batch_size: Count | None = None
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    learning_rate: Positive = 1e-4
    lr_scheduler_type: SchedulerType = "linear"
    warmup_steps: CountOrZero | None = None
    warmup_ratio: Fraction = 0.0
    optim: OptimizerType = "adamw_torch"
    weight_decay: NonNegative = 0.0
    adam_beta1: Decay = 0.9
    adam_beta2: Decay = 0.999
    adam_epsilon: Positive = 1e-8
    sgd_momentum: Decay = 0.0
    max_grad_norm: NonNegative = 1.0
    seed: CountOrZero = 0
    output: str | None = None
    resume: str | None = None
    evaluation_data: str | None = None
    evaluation_fraction: Fraction = 0.0
    evaluation_steps: Count | None = None
    train_on: Literal["auto", "answer", "all"] = "auto"
    text_field: str | None = None
    packing: bool = True
    packed_attention: PackedAttention = "masked"
    commit_seconds: NonNegative = 60.0
    in_place: bool = False
    threads: Count | None = None
    objective: Literal["time", "memory", "writes"] = "time"
    activations: Literal["auto", "recompute", "offload", "keep"] = "auto"
    dry_run: bool = False
    given: frozenset[str] = field(default=frozenset(), metadata={"internal": True})

    @property
    def evaluates(self) -> bool:
        """Whether there is anything to evaluate on."""
        return self.evaluation_data is not None or self.evaluation_fraction > 0

    @property
    def state_copies(self) -> int:
        """Places on disk for each part of the training state."""
        return 1 if self.in_place else 2

    def __post_init__(self) -> None:
        check(self)
        if self.resume is None:  # a resumed run is checked once its folder has filled the rest in
            self._check_source()
            self._check_shape()
            self._check_schedule()
            self._check_optimizer()
            self._check_method()
            self._check_evaluation()

    def _check_source(self) -> None:
        if self.model is None:
            raise UsageError(
                "model is missing: name what to train, or give --resume with a run folder."
            )
        if self.data is None and not self.dry_run:
            raise UsageError("data is missing: give --data with a file, a folder or a data set.")
        if self.steps is not None and self.epochs is not None:
            raise UsageError("steps and epochs exclude each other; give one of them.")

    def _check_shape(self) -> None:
        rows, rest = divmod(self.tokens_per_step, self.max_seq_length)
        if rest:
            fitting = max(rows, 1) * self.max_seq_length
            raise UsageError(
                f"tokens_per_step must be a multiple of max_seq_length={self.max_seq_length}; "
                f"got {self.tokens_per_step}. Try --tokens-per-step {fitting}."
            )
        if self.micro_batch_size is not None and rows % self.micro_batch_size:
            raise UsageError(
                f"micro_batch_size must divide the {rows} rows of a step "
                f"(tokens_per_step / max_seq_length); got {self.micro_batch_size}."
            )

    def _check_schedule(self) -> None:
        if self.warmup_steps is not None and self.warmup_ratio:
            raise UsageError("warmup_steps and warmup_ratio exclude each other; give one of them.")
        if self.lr_scheduler_type == "constant" and (self.warmup_steps or self.warmup_ratio):
            raise UsageError(
                "lr_scheduler_type=constant has no warm-up. "
                "Try --lr-scheduler-type constant_with_warmup."
            )

    def _check_optimizer(self) -> None:
        for name, users in _ONLY_FOR.items():
            if self.optim not in users and self._is_changed(name):
                raise UsageError(
                    f"{name} is for optim={' or '.join(users)}, and optim is {self.optim}. "
                    f"Leave it out, or give --optim {users[0]}."
                )

    @property
    def has_adapters(self) -> bool:
        """Whether the method is one that trains adapters."""
        return self.method in ("lora", "dora", "qlora")

    @property
    def asks_for_adapters(self) -> bool:
        """Whether an option speaks of adapters."""
        return bool(self._of_adapters())

    def _of_adapters(self) -> list[str]:
        return [name for name in _FOR_ADAPTERS if self._is_changed(name)]

    def _is_changed(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).__dataclass_fields__[name].default)

    def _check_method(self) -> None:
        changed = self._of_adapters()
        if self.method == "full" and changed:
            raise UsageError(
                f"{changed[0]} is for adapters, and method is full. Leave it out, or give "
                "--method lora."
            )
        if self.method not in ("qlora", "auto") and "quantization" in changed:
            raise UsageError(
                f"quantization is for method=qlora, and method is {self.method}. Leave it out, or "
                "give --method qlora."
            )
        said = [name for name in changed if name not in ("lora_config", "quantization")]
        if self.lora_config is not None and said:
            raise UsageError(
                f"lora_config says everything about the adapters; leave {said[0]} out."
            )

    def _check_evaluation(self) -> None:
        if self.evaluation_data is not None and self.evaluation_fraction:
            raise UsageError(
                "evaluation_data and evaluation_fraction exclude each other; give one of them."
            )
        if self.evaluation_steps and self.evaluation_data is None and not self.evaluation_fraction:
            raise UsageError("evaluation_steps needs --evaluation-data or --evaluation-fraction.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions(TrainOptions):
    """Options of `outsize plan train`: those of the run, and how to plan.

    Attributes:
        machine: plan for this machine instead of the one at hand: a profile file or a name of
            `outsize machines`.
        endurance_bytes: bytes that the drive may be written in its life by its rating (TBW); None
            takes the machine's, where that is known.
        frontier: also find the best plan at each of several memory sizes.
        chart: PNG file to draw the frontier to; implies `frontier`.
    """

    machine: str | None = None
    endurance_bytes: int | None = None
    frontier: bool = False
    chart: str | None = None
