"""Read the Hugging Face trainers' spellings where they mean the same, refuse them where not.

`translate` works on one source (the file or the command line), `override` lets the command line
win, `combine` then works out those that depend on each other. `trainer_names.py` is the table.
"""

from collections.abc import Mapping

from outsize.cli.trainer_names import ACCEPTED, COMBINED, RENAMED
from outsize.errors import UsageError
from outsize.fields import fields_of
from outsize.train.options import TrainOptions
from outsize.values import Rule, convert

Settings = dict[str, object]

TRAINER_NAMES = tuple(sorted({*RENAMED, *COMBINED, *ACCEPTED}))

_EXCLUSIVE = (
    {"steps", "epochs"},
    {"warmup_steps", "warmup_ratio"},
    {"tokens_per_step", "gradient_accumulation_steps"},
    {"evaluation_data", "evaluation_fraction"},
)
_FLAG = Rule(kind="flag", optional=True)
_COUNT = Rule(kind="integer")
_NUMBER = Rule(kind="number")


def translate(settings: Mapping[str, object]) -> Settings:
    """Rename the settings of one source to ours.

    Raises:
        UsageError: a setting that cannot be honoured, or two spellings that disagree.
    """
    result: Settings = {}
    for key, value in settings.items():
        if key in ACCEPTED:
            _accept(key, value)
        else:
            for target, meaning in _meaning(RENAMED.get(key, key), value).items():
                if target in result and str(result[target]) != str(meaning):
                    raise UsageError(
                        f"{target} is given twice, as {result[target]} and by {key} as {meaning}."
                    )
                result[target] = meaning
    if "max_steps" in settings and "steps" in result:
        result.pop("epochs", None)  # the trainers let max_steps win over num_train_epochs
    return result


def _meaning(key: str, value: object) -> Settings:
    match key:
        case "max_steps":
            steps = convert(key, _COUNT, value)
            return {"steps": steps} if isinstance(steps, int) and steps > 0 else {}
        case "warmup_steps" if value is not None:
            steps = convert(key, _NUMBER, value)
            fraction = isinstance(steps, float) and 0 < steps < 1
            return {"warmup_ratio": steps} if fraction else {key: value}
        case "bf16" | "fp32":
            on = convert(key, _FLAG, value)
            return {} if on is None else {"dtype": _dtype(bfloat16=(key == "bf16") == on)}
        case "completion_only_loss" | "assistant_only_loss":
            on = convert(key, _FLAG, value)
            return {} if on is None else {"train_on": "answer" if on else "all"}
        case "optim" if _plain(value) == "adamw_torch_fused":  # which is the only one here
            return {key: "adamw_torch"}
        case "data_seed" if value is None:
            return {}
    return {key: value}


def _dtype(*, bfloat16: bool) -> str:
    return "bfloat16" if bfloat16 else "float32"


def _accept(key: str, value: object) -> None:
    accepted = ACCEPTED[key]
    if _plain(value) in [_plain(v) for v in accepted.values]:
        return
    allowed = ", ".join(str(v) for v in accepted.values if v is not None)
    hint = f" Leave it out, or give {allowed}." if allowed else " Leave it out."
    raise UsageError(f"{key}={value} cannot be honoured: {accepted.why}.{hint}")


def _plain(value: object) -> str:
    """Make values comparable whether they come as text, from YAML or from the table."""
    text = str(value).strip().lower().replace('"', "'")
    if text in ("", "none", "null", "[]", "{}", "['none']"):
        return "none"
    return text.removesuffix(".0")


def override(file: Settings, line: Settings) -> Settings:
    """Let the command line win over the file, also over what excludes it there."""
    beaten = {name for group in _EXCLUSIVE if group & line.keys() for name in group}
    return {k: v for k, v in file.items() if k not in beaten} | line


def combine(settings: Mapping[str, object]) -> Settings:
    """Work out batch size, evaluation strategy and data seed once every source is merged.

    Raises:
        UsageError: they contradict each other or something of ours.
    """
    result = dict(settings)
    _combine_batch(result)
    _combine_evaluation(result)
    data_seed = result.pop("data_seed", None)
    if data_seed is not None and str(data_seed) != str(result.get("seed", _default("seed"))):
        raise UsageError(
            f"data_seed={data_seed} cannot be honoured: seed decides the data order too. "
            "Leave it out."
        )
    return result


def _combine_batch(result: Settings) -> None:
    batch = _count(result, "per_device_train_batch_size")
    accumulation = _count(result, "gradient_accumulation_steps")
    if batch is None and accumulation is None:
        return
    micro_batch = _count(result, "micro_batch_size")
    if batch is not None and micro_batch not in (None, batch):
        raise UsageError(
            f"per_device_train_batch_size={batch} contradicts micro_batch_size={micro_batch}."
        )
    rows = batch or micro_batch
    length = _count(result, "max_seq_length") or _default("max_seq_length")
    tokens = _count(result, "tokens_per_step")
    assert isinstance(length, int)
    result["max_seq_length"] = length
    if rows is None:
        rows = _rows_from(tokens, accumulation or 1, length)
    if tokens is None:
        tokens = rows * (accumulation or 1) * length
    if accumulation is not None and tokens != rows * accumulation * length:
        raise UsageError(
            f"tokens_per_step={tokens} contradicts gradient_accumulation_steps={accumulation}: "
            f"{rows} rows x {accumulation} x max_seq_length {length} are "
            f"{rows * accumulation * length} tokens. Leave one of them out."
        )
    result["micro_batch_size"], result["tokens_per_step"] = rows, tokens


def _default(key: str) -> object:
    return next(field.default for field in fields_of(TrainOptions) if field.key == key)


def _rows_from(tokens: int | None, accumulation: int, length: int) -> int:
    if tokens is None:
        raise UsageError(
            "gradient_accumulation_steps needs per_device_train_batch_size, the rows that pass at "
            "once; or give tokens_per_step alone and the planner chooses."
        )
    return max(1, tokens // (accumulation * length))


def _count(result: Settings, key: str) -> int | None:
    value = result.pop(key, None)
    if value is None:
        return None
    count = convert(key, _COUNT, value)
    if not isinstance(count, int) or count < 1:
        raise UsageError(f"{key} must be at least 1; got {value!r}.")
    return count


def _combine_evaluation(result: Settings) -> None:
    strategy = result.pop("eval_strategy", None)
    if strategy is None:
        return
    word = "no" if strategy is False else str(strategy)  # YAML reads a bare no as false
    asked = [k for k in ("evaluation_data", "evaluation_fraction") if result.get(k)]
    if word == "no" and asked:
        raise UsageError(f"eval_strategy=no contradicts {asked[0]}. Leave one of them out.")
    if word == "steps" and not result.get("evaluation_steps"):
        raise UsageError("eval_strategy=steps needs eval_steps.")
    if word not in ("no", "steps"):
        raise UsageError(
            f"eval_strategy={word} cannot be honoured: evaluation comes every evaluation_steps and "
            "at the end. Give steps or no."
        )
