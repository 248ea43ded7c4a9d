"""Hugging Face decoders as layered models, with Transformers' own classes untouched.

A block is the model's own decoder layer, called through `torch.func.functional_call` with the
arguments that the model's own forward would pass. Those are found by running that forward with
recorders instead of blocks (`skeleton.py`); the same run does the embedding-time maths (position
embeddings, multipliers). Modules are in evaluation mode: the same maths, without dropout.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.cache_utils import Cache, DynamicCache

from outsize.models import masked_attention as attention
from outsize.models.adapters import dropout, file_name, initialise_adapters
from outsize.models.describe import describe_layer, with_adapters, with_signatures
from outsize.models.initialise import initialise_tensor
from outsize.models.layered import Batch, Context, LayerCall, local_names
from outsize.models.skeleton import Skeleton
from outsize.models.table import partial_ids, partial_table
from outsize.ops.loss import linear_cross_entropy
from outsize.spec.adapter import AdapterSettings
from outsize.spec.model import LayerSpec, ModelSpec


class Decoder:
    """A `LayeredModel` made of the parts of a Hugging Face decoder."""

    def __init__(
        self,
        skeleton: Skeleton,
        *,
        dtype: torch.dtype,
        formula: ModelSpec,
        adapter: AdapterSettings | None = None,
        max_positions: int | None,
        logit_scale: float,
        softcap: float | None,
    ) -> None:
        self.dtype = dtype
        self._adapter = adapter
        self.token_table = f"{skeleton.table_name}.weight"
        self._skeleton = skeleton
        self._logit_scale = logit_scale
        self._softcap = softcap
        self._layers = _layer_modules(skeleton)
        self._parameter_names = tuple(map(self._names, self._layers))
        vocab_size, hidden_size = skeleton.table.weight.shape
        described = ModelSpec(
            architecture=type(skeleton.causal).__name__,
            layers=tuple(self._describe(index) for index in range(len(self._layers))),
            hidden_size=hidden_size,
            vocab_size=vocab_size,
            tied=self.token_table if skeleton.is_tied else None,
            projection=self.token_table
            if skeleton.is_tied
            else f"{skeleton.projection_name}.weight",
            max_positions=max_positions,
            attention_heads=skeleton.attention_heads,
            attention_head_size=skeleton.attention_head_size,
        )
        if adapter is not None:
            described = with_adapters(described, formula)
        self.spec = with_signatures(described, formula)

    def embed(self, parameters: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the hidden state that enters the first block."""
        return self._embed(self._skeleton.table, parameters, batch.input_ids, batch.position_ids)

    def embed_rows(self, parameters: Mapping[str, Tensor], batch: Batch, rows: Tensor) -> Tensor:
        """Do what `embed` does with the rows `rows` of the table."""
        table = partial_table(self._skeleton.table, rows)
        input_ids = partial_ids(batch.input_ids, rows)
        return self._embed(table, parameters, input_ids, batch.position_ids)

    def new_cache(self) -> Cache:
        """Return an empty cache of keys and values, as Transformers' own generation makes it."""
        return DynamicCache(config=self._skeleton.causal.config)

    def context(self, batch: Batch, cache: Cache | None = None) -> Context:
        """Return the blocks' masks and position embeddings.

        With a cache, the tokens of `batch` follow those that it holds, and blocks that are called
        with this context add theirs to it.
        """
        skeleton = self._skeleton
        zero = torch.zeros((), dtype=self.dtype, device=batch.input_ids.device)
        hidden = zero.expand(*batch.input_ids.shape, self.spec.hidden_size)
        tables = {n: zero.expand(p.shape) for n, p in skeleton.base.named_parameters()}
        with torch.no_grad():
            _, calls = self._walk(tables, hidden, batch.position_ids, cache)
        if skeleton.causal.config._attn_implementation == attention.NAME:
            calls = _with_additive_masks(calls, self.dtype)
        return Context(calls=calls)

    def block(
        self,
        index: int,
        parameters: Mapping[str, Tensor],
        hidden: Tensor,
        context: Context,
        dropout_seed: int | None = None,
    ) -> Tensor:
        """Run one decoder layer."""
        (module,) = self._layers[index].values()
        call, names = context.calls[index - 1], self._parameter_names[index]
        local = {names[name]: tensor for name, tensor in parameters.items()}
        drops = self._adapter is not None and self._adapter.lora_dropout > 0
        with dropout(module, dropout_seed) if drops else nullcontext():
            return functional_call(module, local, (hidden, *call.args), dict(call.kwargs))

    def loss(
        self,
        parameters: Mapping[str, Tensor],
        hidden: Tensor,
        labels: Tensor,
        scale: float,
        projection_gradient: Tensor | None = None,
    ) -> Tensor:
        """Run final norm, output projection and cross-entropy, in chunks of tokens."""
        normed = self._norm(parameters, hidden)
        projection = self._projection(parameters)
        return linear_cross_entropy(
            normed.reshape(-1, normed.shape[-1]),
            projection["weight"],
            projection.get("bias"),
            labels.reshape(-1),
            scale=scale,
            softcap=self._softcap,
            logit_scale=self._logit_scale,
            weight_gradient=projection_gradient,
        )

    def logits(self, parameters: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        """Run final norm and the head's own forward.

        Cost: the whole logits `[B, T, V]`, and as much again for scaled or capped ones.
        """
        name = self._skeleton.projection_name
        local = {f"{name}.{n}": t for n, t in self._projection(parameters).items()}
        inputs = {"inputs_embeds": self._norm(parameters, hidden), "use_cache": False}
        return functional_call(self._skeleton.causal, local, (), inputs).logits

    def initialise(
        self,
        index: int,
        seed: int,
        values: Mapping[str, Tensor],
        base: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write tensors of a layer as the model's own initialisation makes them, and adapters as
        PEFT's does.
        """
        causal, names = self._skeleton.causal, self._parameter_names[index]
        for tensor in self.spec.layers[index].tensors:
            if tensor.name not in values or tensor.added:
                continue
            for name, module in self._layers[index].items():
                if tensor.name.startswith(f"{name}."):
                    value, local = values[tensor.name], names[tensor.name]
                    initialise_tensor(causal, module, local, tensor.name, seed, value)
        for name, module in self._layers[index].items() if self._adapter is not None else ():
            initialise_adapters(module, name, self._adapter, seed, values, base or values)

    def _embed(
        self,
        table: nn.Module,
        parameters: Mapping[str, Tensor],
        input_ids: Tensor,
        position_ids: Tensor,
    ) -> Tensor:
        skeleton = self._skeleton
        embedded = functional_call(table, local_names(parameters, skeleton.table_name), input_ids)
        others = {
            tensor.name.removeprefix(f"{skeleton.base_name}."): parameters[tensor.name]
            for tensor in self.spec.layers[0].tensors
            if tensor.name != self.token_table
        }
        hidden, _ = self._walk(others, embedded, position_ids)
        return hidden

    def _walk(
        self,
        tables: Mapping[str, Tensor],
        embedded: Tensor,
        position_ids: Tensor,
        cache: Cache | None = None,
    ) -> tuple[Tensor, tuple[LayerCall, ...]]:
        """Run the base model around its blocks; `tables` are its parameters by local name."""
        skeleton = self._skeleton
        skeleton.recorder.clear()
        inputs = {
            "inputs_embeds": embedded,
            "position_ids": position_ids,
            "attention_mask": None,
            "past_key_values": cache,
            "use_cache": cache is not None,
        }
        output = functional_call(skeleton.base, dict(tables), (), inputs)
        return output.last_hidden_state, tuple(skeleton.recorder)

    def _norm(self, parameters: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        skeleton = self._skeleton
        return functional_call(
            skeleton.norm, local_names(parameters, skeleton.norm_name), (hidden,)
        )

    def _projection(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        projection = local_names(parameters, self._skeleton.projection_name)
        if self._skeleton.is_tied:
            projection["weight"] = parameters[self.token_table]
        return projection

    def _describe(self, index: int) -> LayerSpec:
        modules = self._layers[index]
        is_last = index == len(self._layers) - 1
        tied = frozenset(
            {f"{self._skeleton.projection_name}.weight"} if self._skeleton.is_tied else ()
        )
        call = str if self._adapter is None else file_name
        if index == 0:
            table_name = self._skeleton.table_name
            return describe_layer(table_name, "embedding", modules, frozenset(), call)
        if is_last:
            return describe_layer(self._skeleton.projection_name, "head", modules, tied, call)
        return describe_layer(next(iter(modules)), "block", modules, frozenset(), call)

    def _names(self, modules: Mapping[str, nn.Module]) -> dict[str, str]:
        """Return the local name of each parameter of a layer by its name in files."""
        call = str if self._adapter is None else file_name
        return {
            call(f"{name}.{local}"): local
            for name, module in modules.items()
            for local, _ in module.named_parameters()
        }


def _with_additive_masks(calls: Sequence[LayerCall], dtype: torch.dtype) -> tuple[LayerCall, ...]:
    """Replace boolean masks by what PyTorch's attention makes of them anew in every layer."""
    made: dict[int, Tensor] = {}

    def additive(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.bool or value.dim() != 4:
            return value
        if id(value) not in made:
            made[id(value)] = attention.additive_mask(value, dtype)
        return made[id(value)]

    return tuple(
        LayerCall(
            args=tuple(map(additive, call.args)),
            kwargs={name: additive(value) for name, value in call.kwargs.items()},
        )
        for call in calls
    )


def _layer_modules(skeleton: Skeleton) -> tuple[dict[str, nn.Module], ...]:
    """Return the modules of each layer by their names in the whole model."""
    embedding = {
        f"{skeleton.base_name}.{name}": module
        for name, module in skeleton.base.named_children()
        if any(True for _ in module.parameters())
    }
    blocks = [{f"{skeleton.blocks_name}.{i}": block} for i, block in enumerate(skeleton.blocks)]
    projection = skeleton.causal.get_submodule(skeleton.projection_name)
    head = {skeleton.norm_name: skeleton.norm, skeleton.projection_name: projection}
    return (embedding, *blocks, head)
