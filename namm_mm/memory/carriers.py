"""Which models can carry a memory, found out before their first token."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from namm_mm.errors import UnsupportedError, UsageError, message
from namm_mm.policies.base import Budget, Policy

SERVED_LAYERS = {"full_attention", "sliding_attention"}


def unwrapped(model: nn.Module) -> nn.Module:
    """The model whose forward ``generate`` calls, inside adapters of PEFT and ``torch.compile``."""
    while True:
        kinds = {kind.__name__ for kind in type(model).__mro__}
        if "OptimizedModule" in kinds:
            model = model._orig_mod  # type: ignore[assignment]
        elif "PeftModel" in kinds:
            model = model.get_base_model()  # type: ignore[operator]
        else:
            return model


def check_made_for(policy: Policy, config: Any) -> None:
    """Raise `UsageError` where feature maps or a table of heads were made for another model."""
    plain = config.to_dict()
    heads = int(config.num_attention_heads)
    kv_heads = int(plain.get("num_key_value_heads") or heads)
    selection = policy.selection
    if isinstance(selection, Budget) and selection.table is not None:
        selection.table.check_model(int(config.num_hidden_layers), kv_heads)
    maps = policy.residual
    if maps is None:
        return
    if maps.layers != config.num_hidden_layers:
        raise UsageError(
            message(
                "the feature maps of the residual do not fit the model",
                given=f"{config.num_hidden_layers} layers",
                expected=f"{maps.layers} layers",
                then="Train maps for this model: `namm-mm build less model=NAME`.",
            )
        )
    width = int(plain.get("head_dim") or config.hidden_size // heads)
    maps.check_model(heads, kv_heads, width)


def decoder_config(model: nn.Module, policy: Policy) -> Any:
    """Configuration of the decoder inside `model`, checked for `policy`."""
    if not isinstance(model, PreTrainedModel):
        raise UnsupportedError(
            message(
                "cannot attach a memory",
                given=type(model).__name__,
                expected="a transformers model with a configuration",
                then="Attach to the decoder itself.",
            )
        )
    if model.config.is_encoder_decoder:
        raise UnsupportedError(
            message(
                "cannot attach a memory",
                given=type(model).__name__,
                expected="a decoder-only model: cross-attention is not served",
            )
        )
    config: Any = model.config.get_text_config(decoder=True)
    kinds = set(config.to_dict().get("layer_types") or ()) - SERVED_LAYERS
    if kinds:
        raise UnsupportedError(
            message(
                "cannot attach a memory",
                given=sorted(kinds),
                expected="layers of full or sliding attention",
            )
        )
    check_made_for(policy, config)
    return config
