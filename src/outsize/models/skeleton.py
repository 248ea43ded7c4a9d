"""A Hugging Face decoder without weights, taken apart into the modules that are run one at a time.

The model is built on the meta device, so that it costs no memory, and its few computed buffers
(rotary frequencies, embedding scales) are made real by the model's own initialisation. Then three
parts are put aside and replaced: the blocks by recorders, the final norm by an identity, and the
base model inside the head by a relay. What is left of the base model's forward is the
architecture's own maths around the blocks, which `decoder.py` runs as it is.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.modeling_utils import PreTrainedModel

from outsize.errors import ModelError
from outsize.models import masked_attention, split_attention
from outsize.models.adapters import add_adapters
from outsize.models.architectures import Architecture
from outsize.models.layered import LayerCall
from outsize.spec.adapter import AdapterSettings
from outsize.values import PackedAttention


@dataclass(frozen=True, slots=True, kw_only=True)
class Skeleton:
    """The parts of a decoder; every parameter is on the meta device, every buffer is real.

    Attributes:
        causal: the whole model with the base model replaced by a relay: what it does is the head.
        base: the base model with recorders for blocks and no final norm.
        base_name: name of the base model in the whole one.
        table: the module that turns token ids into embeddings.
        table_name: its name in the whole model.
        norm: the final norm.
        norm_name: its name in the whole model.
        projection_name: name of the output projection in the whole model.
        blocks: the decoder layers.
        blocks_name: name of their list in the whole model.
        is_tied: whether the output projection's weight is the table.
        attention_heads: heads of the blocks' fused attention; 0 when attention is not fused.
        attention_head_size: elements of one head.
        recorder: where the blocks' calls are written during a forward of `base`.
    """

    causal: PreTrainedModel
    base: nn.Module
    base_name: str
    table: nn.Embedding
    table_name: str
    norm: nn.Module
    norm_name: str
    projection_name: str
    blocks: tuple[nn.Module, ...]
    blocks_name: str
    is_tied: bool
    attention_heads: int
    attention_head_size: int
    recorder: list[LayerCall]


_FUSED: Mapping[PackedAttention, str] = {
    "masked": masked_attention.NAME,
    "split": split_attention.NAME,
}


def build_skeleton(
    architecture: Architecture,
    config: Any,
    dtype: torch.dtype,
    packed_attention: PackedAttention = "masked",
    adapter: AdapterSettings | None = None,
) -> Skeleton:
    """Build the model of a configuration, with adapters where they are asked for, and take it
    apart.

    Cost: no weights; the computed buffers, a few KiB.
    """
    with torch.device("meta"):
        causal = build_module(architecture, config, dtype, _FUSED[packed_attention])
    _make_buffers_real(causal)
    if adapter is not None:
        add_adapters(causal, adapter)
    base_name = causal.base_model_prefix
    base = causal.get_submodule(base_name)
    table = base.get_submodule(architecture.table)
    projection = causal.get_output_embeddings()
    projection_name = next(name for name, m in causal.named_modules() if m is projection)
    blocks, norm = base.get_submodule(architecture.blocks), base.get_submodule(architecture.norm)
    recorder: list[LayerCall] = []
    is_fused = causal.config._attn_implementation in _FUSED.values()
    heads = causal.config.num_attention_heads
    head_size = getattr(causal.config, "head_dim", None) or causal.config.hidden_size // heads
    base.set_submodule(architecture.blocks, nn.ModuleList(_Recorder(recorder) for _ in blocks))
    base.set_submodule(architecture.norm, nn.Identity())
    causal.set_submodule(base_name, _Relay())
    return Skeleton(
        causal=causal,
        base=base,
        base_name=base_name,
        table=table,
        table_name=f"{base_name}.{architecture.table}",
        norm=norm,
        norm_name=f"{base_name}.{architecture.norm}",
        projection_name=projection_name,
        blocks=tuple(blocks),
        blocks_name=f"{base_name}.{architecture.blocks}",
        is_tied=projection.weight is table.weight,
        attention_heads=heads if is_fused else 0,
        attention_head_size=head_size if is_fused else 0,
        recorder=recorder,
    )


def build_module(
    architecture: Architecture,
    config: Any,
    dtype: torch.dtype,
    attention: str,
) -> PreTrainedModel:
    """Build Transformers' model on the current device as `from_pretrained` would, without dropout.

    Args:
        architecture: of the model.
        config: its sizes.
        dtype: of its weights.
        attention: name of a fused attention; a model that has none of its own takes the eager one.

    Raises:
        ModelError: the model's constructor does not accept the configuration's sizes.
    """
    model_class = architecture.model_class()
    own_config = copy.deepcopy(config)
    name = attention if model_class._supports_sdpa else "eager"
    try:
        model = model_class._from_config(own_config, dtype=dtype, attn_implementation=name)
    except (ValueError, TypeError, KeyError, ArithmeticError, AssertionError) as error:
        raise ModelError(
            f"Transformers cannot build {architecture.name} from this configuration: {error}"
        ) from error
    return model.eval()


def _make_buffers_real(model: PreTrainedModel) -> None:
    """Give computed buffers their values by an initialisation that skips all parameters."""
    for parameter in model.parameters():
        parameter._is_hf_initialized = True
    buffers = dict(model.named_buffers())
    assert not buffers.keys() & model.state_dict().keys(), "buffers that belong to the weights"
    for name, buffer in buffers.items():
        owner, _, local_name = name.rpartition(".")
        module = model.get_submodule(owner)
        setattr(module, local_name, torch.empty_like(buffer, device="cpu"))
    model.initialize_weights()


class _Recorder(nn.Module):
    """Stands where a block was: writes down its call and returns the hidden state as it is."""

    def __init__(self, calls: list[LayerCall]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # any block's signature
        self.calls.append(LayerCall(args=args, kwargs=kwargs))
        return hidden


class _Relay(nn.Module):
    """Stands where the base model was and hands on its embeddings as the hidden state."""

    def forward(
        self,
        *args: Any,
        inputs_embeds: Tensor,
        **kwargs: Any,  # any base model's signature
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=inputs_embeds)
