"""Streamed adapters equal PEFT's in memory, bit for bit: weights, moments and losses.

The plain side is Transformers' own model with PEFT around it, autograd and `torch.optim.AdamW`. It
starts with the values that the streamed side imports.
"""

from pathlib import Path

import peft
import pytest
import torch
from harness import (
    MODELS,
    State,
    TinyRun,
    assert_equal_states,
    make_options,
    make_rows,
    make_session,
    make_store,
    model_config,
)
from torch import Tensor, nn

from outsize.models.adapters import lora_config
from outsize.models.initialise import initial_values
from outsize.models.registry import build, plain_model, read_config
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.ops.loss import linear_cross_entropy
from outsize.ops.packing import PackedMatrix
from outsize.spec.packing import PackedPlace
from outsize.train.adapter import adapter_settings, config_text, packing
from outsize.train.data.rows import PackedRows
from outsize.train.data.sampler import StepSampler
from outsize.train.learning_rate import learning_rate
from outsize.train.options import TrainOptions
from outsize.train.step_data import StepInputs
from outsize.train.trainer import read_batch
from outsize.train.verify.plain_optimizers import MOMENTS, plain_optimizer
from outsize.train.workload import make_workload
from outsize.values import Packing

NUM_STEPS = 4
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT's own, of Transformers

PREFIX = "base_model.model."


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def adapter_options(**changes: object) -> TrainOptions:
    return make_options(**({"method": "lora", "lora_r": 3, "lora_alpha": 6.0} | changes))


def adapted(name: str, options: TrainOptions):
    dtype = TORCH_DTYPES[options.dtype]
    settings, packed = adapter_settings(options), packing(options)
    return build(model_config(name), dtype, options.packed_attention, settings, packed)


def stream(
    name: str, options: TrainOptions, folder: Path, arena: str = "least", keeps: bool = True
) -> tuple[list[float], State, TinyRun]:
    session = make_session(
        adapted(name, options), options, arena=arena, span_elements=64, keeps_products=keeps
    )
    run = TinyRun(
        session=session,
        options=options,
        rows=make_rows(folder / "rows"),
        num_steps=NUM_STEPS,
        folder=folder,
        store=make_store(session),
    )
    return run.train().losses, run.state(), run


class PeftTrainer:
    """Transformers' model with PEFT's adapters, whole in memory."""

    def __init__(self, name: str, options: TrainOptions) -> None:
        config, model = model_config(name), adapted(name, options)
        self.architecture, self.config = read_config(config)
        settings = adapter_settings(options)
        assert settings is not None
        plain = plain_model(config, TORCH_DTYPES[options.dtype])
        self.peft = peft.get_peft_model(plain, lora_config(settings, type(plain).__name__))
        self.options = options
        weights: dict[str, Tensor] = {}
        for index in range(len(model.spec.layers)):
            weights |= initial_values(model, index, options.seed)
            for tensor in model.spec.layers[index].tensors:
                if tensor.packing is not None:
                    weights[tensor.name] = packed_and_back(weights[tensor.name], tensor.packing)
        self.load(weights)
        self.trained = {saved(n): p for n, p in self.peft.named_parameters() if p.requires_grad}
        group = {"params": [*self.trained.values()], "weight_decay": options.weight_decay}
        self.optimizer = plain_optimizer(options, [group])

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        found = {saved(n): p for n, p in self.peft.named_parameters()}
        assert found.keys() == weights.keys()
        for name, parameter in found.items():
            parameter.copy_(weights[name])
        assert all(p.dtype == torch.float32 for p in found.values() if p.requires_grad)

    def step(self, step: int, rows: PackedRows) -> float:
        workload = make_workload(self.options, adapted_spec(self.options))[0]
        indices = StepSampler(rows.num_rows, workload.rows_per_step, self.options.seed).rows(step)
        size = workload.micro_batch_rows
        starts = range(0, len(indices), size)
        batches = [read_batch(rows, indices[i : i + size]) for i in starts]
        scale = 1.0 / sum(int((batch.labels != -100).sum()) for batch in batches)
        inputs = StepInputs(
            batches=batches, scale=scale, rows=torch.empty(0), contexts=[],
            dropout=f"dropout/{self.options.seed}/{step}",
        )  # fmt: skip
        losses = [self.micro_batch(inputs, m) for m in range(len(batches))]
        if self.options.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(self.trained.values(), self.options.max_grad_norm)
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.options, step, NUM_STEPS)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return sum(losses)

    def micro_batch(self, inputs: StepInputs, m: int) -> float:
        module, batch = self.peft.get_base_model(), inputs.batches[m]
        hooks = [
            block.register_forward_pre_hook(seeded(inputs.dropout_seed(1 + index, m)))
            for index, block in enumerate(self.blocks())
        ]
        hidden = module.base_model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
        ).last_hidden_state
        for hook in hooks:
            hook.remove()
        projection = module.get_output_embeddings()
        loss = linear_cross_entropy(
            hidden.reshape(-1, hidden.shape[-1]),
            projection.weight,
            projection.bias,
            batch.labels.reshape(-1),
            scale=inputs.scale,
            softcap=self.architecture.softcap(self.config),
            logit_scale=self.architecture.logit_scale(self.config),
        )
        loss.backward()
        return loss.item()

    def blocks(self):
        return self.peft.get_base_model().base_model.get_submodule(self.architecture.blocks)

    def state(self) -> State:
        found = {}
        for name, parameter in self.trained.items():
            state = self.optimizer.state[parameter]
            moments = {ours: state[t].flatten() for t, ours in MOMENTS.items() if t in state}
            found[name] = {"master": parameter.detach().flatten()} | moments
        return found


def packed_and_back(values: Tensor, packing: Packing) -> Tensor:
    place = PackedPlace(packing=packing, num_elements=values.numel(), start=0)
    matrix = PackedMatrix(torch.zeros(place.stop, dtype=torch.uint8), place)
    matrix.pack(0, values.flatten().float())
    result = torch.empty_like(values).flatten()
    matrix.unpack(result)
    assert not torch.equal(result, values.flatten())
    return result.view(values.shape)


def saved(name: str) -> str:
    """The name that PEFT saves a parameter under, without the prefix."""
    name = name.removeprefix(PREFIX).replace(".default", "").replace(".base_layer", "")
    return name.removesuffix(".weight") if "magnitude" in name else name


def seeded(seed: int | None):
    def hook(module: nn.Module, args: object) -> None:
        torch.manual_seed(seed or 0)

    return hook


def adapted_spec(options: TrainOptions):
    return adapted("Llama", options).spec


def assert_equal_to_peft(name: str, options: TrainOptions, folder: Path, **settings) -> None:
    losses, state, run = stream(name, options, folder, **settings)
    trainer = PeftTrainer(name, options)
    if options.lora_dropout:
        for module in trainer.peft.modules():
            if hasattr(module, "reset_lora_parameters"):
                module.train()
    expected = [trainer.step(step, run.rows) for step in range(NUM_STEPS)]
    assert losses == expected
    assert_equal_states(state, trainer.state())


@pytest.mark.parametrize("arena", ["least", "whole"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("name", ["Llama", "Llama tied", "Qwen3", "Gemma 3", "GPT-2", "Phi-3"])
def test_adapters_equal_peft(
    name: str, method: str, dtype: str, arena: str, tmp_path: Path
) -> None:
    options = adapter_options(method=method, dtype=dtype)
    assert_equal_to_peft(name, options, tmp_path, arena=arena)


@pytest.mark.parametrize(
    "changes",
    [
        {"lora_dropout": 0.3},
        {"lora_dropout": 0.3, "method": "dora"},
        {"use_rslora": True, "lora_alpha": 5.0},
        {"target_modules": "q_proj,v_proj"},
        {"max_grad_norm": 0.0, "micro_batch_size": 1},
        {"optim": "lion_32bit"},
        {"optim": "sgd", "sgd_momentum": 0.9},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_options_of_adapters_equal_peft(
    dtype: str, changes: dict[str, object], tmp_path: Path
) -> None:
    assert_equal_to_peft("Llama tied", adapter_options(dtype=dtype, **changes), tmp_path)


@pytest.mark.parametrize("arena", ["least", "medium", "whole"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("name", ["Llama tied", "GPT-2"])
def test_packed_weights_equal_peft_on_what_they_unpack_to(
    name: str, quantization: str, dtype: str, arena: str, tmp_path: Path
) -> None:
    options = adapter_options(method="qlora", quantization=quantization, dtype=dtype)
    assert_equal_to_peft(name, options, tmp_path, arena=arena)


def test_a_whole_configuration_equals_peft(tmp_path: Path) -> None:
    config = peft.LoraConfig(
        r=4,
        lora_alpha=12,
        target_modules=["q_proj", "up_proj", "down_proj"],
        exclude_modules=["2.mlp.up_proj"],
        layers_to_transform=[1, 2],
        rank_pattern={"down_proj": 2},
        alpha_pattern={"1.mlp.down_proj": 3},
        init_lora_weights="gaussian",
        use_rslora=True,
    )
    options = make_options(method="lora", lora_config=config_text(config), dtype="bfloat16")
    assert_equal_to_peft("Llama", options, tmp_path)
    spec = adapted("Llama", options).spec
    assert spec.lowest_trained == 2
    assert not any(
        "layers.2.mlp.up_proj.lora_A" in t.name for la in spec.layers for t in la.tensors
    )


@pytest.mark.parametrize("name", ["Llama tied", "GPT-2"])
def test_recomputed_products_equal_peft(name: str, tmp_path: Path) -> None:
    options = adapter_options(dtype="bfloat16")
    assert_equal_to_peft(name, options, tmp_path, keeps=False)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_formula_knows_the_tensors_of_the_modules(name: str, method: str) -> None:
    model = adapted(name, adapter_options(method=method, lora_dropout=0.1))
    signatures = {layer.signature for layer in model.spec.layers}
    assert all(":lora:" in s or ":frozen" in s for s in signatures), signatures
    assert model.spec.num_trainable < model.spec.num_elements
