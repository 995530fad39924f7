"""Which models can carry a memory, found out before their first token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import GenerationMixin, PreTrainedModel

from namm_mm.errors import UnsupportedError, UsageError, message
from namm_mm.memory.layout import Layout
from namm_mm.policies.base import Budget, Policy
from namm_mm.policies.model_shape import heads_of


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


def check_made_for(policy: Policy, config: Any, layers: int) -> None:
    """Raise `UsageError` where feature maps or a table of heads were made for another model.

    `layers` is the number of layers of attention.
    """
    selection, maps = policy.selection, policy.residual
    table = selection.table if isinstance(selection, Budget) else None
    if table is None and maps is None:
        return
    heads = heads_of(config)
    if table is not None:
        table.check_model(layers, heads.kv)
    if maps is None:
        return
    if maps.layers != layers:
        raise UsageError(
            message(
                "the feature maps of the residual do not fit the model",
                given=f"{layers} layers",
                expected=f"{maps.layers} layers",
                then="Train maps for this model: `namm-mm build less model=NAME`.",
            )
        )
    maps.check_model(*heads)


@dataclass(frozen=True)
class Carrier:
    """What a model needs of its memory, and whether it can be given.

    Attributes
    ----------
    layout
        The cache of each layer.
    own_attention
        It computes attention in code of its own, where no other function can be put.
    own_cache
        It takes no cache but one of its own class.
    """

    layout: Layout
    own_attention: bool = False
    own_cache: bool = False

    @classmethod
    def of(cls, model: nn.Module, config: Any) -> Carrier:
        """Look at `model`, whose decoder is the one that `config` describes."""
        parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
        decoders = [part for part in parts if part.config is config]
        return cls(
            Layout.of(config),
            not all(part._can_set_attn_implementation() for part in decoders),
            # The call needs no instance, but its annotation asks for one that generates.
            isinstance(model, GenerationMixin) and not model._supports_default_dynamic_cache(),  # type: ignore[misc]
        )


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
    check_made_for(policy, config, Layout.of(config).attention)
    return config
