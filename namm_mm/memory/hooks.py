"""What an attached memory gives a model: its cache, its mask function, its attention function."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import causal_mask_function

from namm_mm.errors import RunError, UnsupportedError, UsageError, message
from namm_mm.memory.cache import EvictingCache, take_pending
from namm_mm.memory.caches import Caches
from namm_mm.memory.formula import Formula

# Extra arguments of attention functions that change what is computed.
_CHANGES_ATTENTION = ("softcap", "s_aux", "position_bias", "head_mask", "block_table")


_MASKS: ContextVar[frozenset[str]] = ContextVar("masks", default=frozenset())
"""The kinds of mask that the running call of the model has asked for: ``causal``, ``sliding``."""


def before_call(
    caches: Caches,
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    place_of_cache: int,
) -> dict[str, Any]:
    """Return the keyword arguments of the model's forward with our cache among them.

    Parameters
    ----------
    caches
        Finds or makes the cache of the call.
    model
        The model that is called.
    args, kwargs
        The arguments of the call.
    place_of_cache
        How many arguments may be given by position before ``past_key_values`` is one of them.

    Raises
    ------
    UsageError
        There is no token in the call.
    UnsupportedError
        The call asks for what an evicting memory does not serve, or brings another cache.
    """
    if kwargs.get("use_cache") is False:
        raise UnsupportedError(
            "the memory is the cache: got use_cache=False, expected True or nothing."
        )
    asked = kwargs.get("output_attentions")
    if model.config.output_attentions if asked is None else asked:  # type: ignore[union-attr]
        raise UnsupportedError(
            "attention weights are never built as a whole: got output_attentions=True. Read "
            "`memory.kept(layer)`, or run the model without a memory."
        )
    if len(args) > place_of_cache:
        raise UnsupportedError(
            "past_key_values was given by position: pass it by name, past_key_values=..., or leave "
            "it out."
        )
    for given in (*args[:1], kwargs.get("input_ids"), kwargs.get("inputs_embeds")):
        if isinstance(given, Tensor) and given.dim() > 1 and not given.shape[1]:
            raise UsageError(
                message("empty prompt", given="0 tokens", expected="a batch with 1 token or more")
            )
    _MASKS.set(frozenset())
    cache = caches.for_call(kwargs.get("past_key_values"))
    cache.sequences.prompt.note(kwargs.get("attention_mask"), kwargs.get("position_ids"))
    return {**kwargs, "past_key_values": cache, "use_cache": True}


def after_call(model: nn.Module, kwargs: Mapping[str, Any]) -> None:
    """Raise `UnsupportedError` if a layer of `model` did not run the memory's attention."""
    cache = kwargs["past_key_values"]
    if isinstance(cache, EvictingCache):
        cache.check_served(type(model).__name__)


def pass_padding(
    *, mask_function: Any, attention_mask: Tensor | None, config: Any, **kwargs: Any
) -> Tensor | None:
    """Pass the padding (row, column) on as it is; causality follows from positions."""
    slides = vars(config).get("sliding_window") is not None
    if kwargs.get("use_vmap") or (mask_function is not causal_mask_function and not slides):
        raise UnsupportedError(
            f"{type(config).__name__} asks for a mask that is not causal (bidirectional, packed or "
            "prefix attention), which an evicting memory does not serve."
        )
    kind = "causal" if mask_function is causal_mask_function else "sliding"
    _MASKS.set(_MASKS.get() | {kind})
    return attention_mask


class _RefuseGradients(torch.autograd.Function):
    """Passes the output of the memory's attention on, and refuses to go back through it."""

    @staticmethod
    def forward(_context: Any, out: Tensor, *_inputs: Tensor) -> Tensor:
        return out.view_as(out)

    @staticmethod
    def backward(_context: Any, *_gradients: Tensor) -> tuple[None, ...]:
        raise UnsupportedError(
            "gradients do not pass an evicting memory: what was evicted is gone. Train without "
            "`attach`, or run under torch.no_grad()."
        )


def evicting_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention over what is kept; (row, head, column, dim) in, (row, column, head, dim) out."""
    layer = take_pending(key)
    if layer is None:
        raise RunError(
            f"{type(module).__name__} ran attention without the memory's cache. Call the model "
            "that the memory is attached to, or pass `past_key_values=memory.cache`."
        )
    if attention_mask is not None and attention_mask.dim() != 2:
        raise UnsupportedError(
            message(
                "wrong attention mask",
                given=tuple(attention_mask.shape),
                expected="a padding mask (row, column): other masks are made from positions",
            )
        )
    if dropout:
        raise UnsupportedError(
            f"the model is in training mode (attention dropout {dropout}): call `model.eval()`."
        )
    changed = [name for name in _CHANGES_ATTENTION if kwargs.get(name) is not None]
    if changed:
        raise UnsupportedError(
            f"{type(module).__name__} passes {', '.join(changed)} to attention, which an evicting "
            "memory does not serve."
        )
    if sliding_window is None and _MASKS.get() == {"sliding"}:
        # Some families put the window into the mask alone, the same for all layers.
        sliding_window = module.config.sliding_window  # type: ignore[union-attr, assignment]
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.no_grad():
        out = layer.attend(query, key, value, attention_mask, Formula(factor, sliding_window))
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
        out = _RefuseGradients.apply(out, query, key, value)  # type: ignore[no-untyped-call]
    return out.transpose(1, 2).contiguous(), None
