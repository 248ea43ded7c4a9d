"""Everything a user can choose about the verbs other than `train`, one frozen record a verb.

No torch in here. `train/options.py` holds the options of `train` and `plan`; `fields.py` reads
both.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from outsize.errors import UsageError
from outsize.fields import check
from outsize.values import Count, CountOrZero, NonNegative, PackedAttention, Range

ComputeType = Literal["bfloat16", "float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """Options of `outsize verify`.

    Attributes:
        model: built-in name, folder, GGUF file, config.json (fresh weights) or Hub id.
        memory_bytes: the budget that the streamed side trains in; None means what is really free.
        steps: number of train steps that are compared.
        dtypes: compute dtypes to compare in.
        layers: use only so many of the model's decoder layers; None means as many as plain PyTorch
            has room for.
        tokens_per_step: tokens of one step.
        max_seq_length: tokens of one row.
        seed: decides the data order and fresh weights.
        work: folder for the streamed state, removed afterwards; None takes a temporary one.
        quick: compare one case (the first dtype, clipped, accumulation 4) instead of all.
        threads: compute threads; None takes PyTorch's default.
        packed_attention: as of `outsize train`; plain PyTorch gets the same attention.
    """

    model: str
    memory_bytes: int | None = None
    steps: Count = 5
    dtypes: tuple[ComputeType, ...] = ("bfloat16", "float32")
    layers: Count | None = None
    tokens_per_step: Count = 512
    max_seq_length: Count = 128
    seed: CountOrZero = 42
    work: str | None = None
    quick: bool = False
    threads: Count | None = None
    packed_attention: PackedAttention = "masked"

    def __post_init__(self) -> None:
        check(self)
        if self.tokens_per_step % self.max_seq_length:
            raise UsageError(
                f"tokens_per_step must be a multiple of max_seq_length={self.max_seq_length}; "
                f"got {self.tokens_per_step}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeOptions:
    """Options of `outsize merge`.

    Attributes:
        adapter: run folder that trained adapters, or a folder of PEFT's with an
            `adapter_config.json` and an `adapter_model.safetensors`.
        model: the model that they were trained on; None takes the one that the run or the
            configuration names.
        output: folder to write the merged model to.
        dtype: dtype of the written weights.
        max_shard_bytes: largest size of one written file.
        memory_bytes: the budget for the whole process on host; None means what is really free.
    """

    adapter: str
    model: str | None = None
    output: str | None = None
    dtype: ComputeType = "bfloat16"
    max_shard_bytes: int = field(default=5 * 10**9, metadata={"key": "max_shard_size"})
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        check(self)
        if self.output is None:
            raise UsageError("output is missing: name the folder to write to with --output.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Options of `outsize export`.

    Attributes:
        run: run folder to export from.
        output: folder to write; None means `export` inside the run folder.
        format: format of the written model.
        dtype: dtype of the written weights; float32 writes the masters. None is bfloat16, and
            float32 for adapters.
        max_shard_bytes: largest size of one written file.
        memory_bytes: the budget for the whole process on host; None means what is really free.
    """

    run: str
    output: str | None = None
    format: Literal["safetensors"] = "safetensors"
    dtype: ComputeType | None = None
    max_shard_bytes: int = field(default=5 * 10**9, metadata={"key": "max_shard_size"})
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions:
    """Options of `outsize generate`.

    Attributes:
        model: built-in name, folder, GGUF file, run folder or Hub id.
        prompt: text to continue or to answer.
        memory_bytes: the budget for the whole process on host; None means what is really free.
        max_new_tokens: most tokens to write.
        temperature: 0 always takes the likeliest token; higher is more varied.
        top_p: sample among the likeliest tokens that together have this probability; 1 means all.
        top_k: sample among so many of the likeliest tokens; 0 means all.
        seed: decides what is sampled.
        chat: put the prompt into the model's chat template; None does so when it has one.
        dtype: compute dtype.
        threads: compute threads; None takes PyTorch's default.
    """

    model: str
    prompt: str
    memory_bytes: int | None = None
    max_new_tokens: Count = 128
    temperature: NonNegative = 0.0
    top_p: Annotated[float, Range(above=0, maximum=1)] = 1.0
    top_k: CountOrZero = 0
    seed: CountOrZero = 42
    chat: bool | None = None
    dtype: ComputeType = "bfloat16"
    threads: Count | None = None

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """Options of `outsize probe`.

    Attributes:
        folder: folder whose disk is measured: where run folders will lie.
        output: file to write the profile to; None means the place where every run looks for it.
        threads: compute threads; None takes PyTorch's default.
    """

    folder: str = "."
    output: str | None = None
    threads: Count | None = None

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinesOptions:
    """Options of `outsize machines`.

    Attributes:
        name: machine of the catalogue, or profile file, to show in full; None lists the catalogue.
    """

    name: str | None = None

    def __post_init__(self) -> None:
        check(self)
