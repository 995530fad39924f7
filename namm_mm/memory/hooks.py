"""What an attached memory gives a model: its cache, its mask function, its attention function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import causal_mask_function

from namm_mm.errors import RunError, UnsupportedError, message
from namm_mm.memory.cache import EvictingCache, take_pending

# Extra arguments of attention functions that change what is computed.
_CHANGES_ATTENTION = ("softcap", "s_aux", "position_bias", "head_mask", "block_table")


def with_cache(new_cache: Callable[[], EvictingCache], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the model's forward with our cache among them.

    Parameters
    ----------
    new_cache
        Makes the cache of new sequences, for a call that brings none.
    kwargs
        The keyword arguments of the call.

    Raises
    ------
    UnsupportedError
        The call asks for what an evicting memory does not serve, or brings another cache.
    """
    given = kwargs.get("past_key_values")
    if kwargs.get("use_cache") is False:
        raise UnsupportedError(
            "the memory is the cache: got use_cache=False, expected True or nothing."
        )
    if kwargs.get("output_attentions"):
        raise UnsupportedError(
            "attention weights are never built as a whole: got output_attentions=True. Read "
            "`memory.kept(layer)`, or run the model without a memory."
        )
    if isinstance(given, EvictingCache):
        return {**kwargs, "use_cache": True}
    fresh = given is None or (type(given) is DynamicCache and given.get_seq_length() == 0)
    if not fresh:
        kind = type(given).__name__
        length = given.get_seq_length() if isinstance(given, Cache) else "unknown"
        raise UnsupportedError(
            f"cannot go on from another cache: got a {kind} of length {length}, expected none, or "
            "`memory.cache` to continue. Static, quantised and sliding caches are not served."
        )
    return {**kwargs, "past_key_values": new_cache(), "use_cache": True}


def pass_padding(
    *, mask_function: Any, attention_mask: Tensor | None, config: Any, **kwargs: Any
) -> Tensor | None:
    """Pass the padding (row, column) on as it is; causality follows from positions."""
    slides = getattr(config, "sliding_window", None) is not None
    if kwargs.get("use_vmap") or (mask_function is not causal_mask_function and not slides):
        raise UnsupportedError(
            f"{type(config).__name__} asks for a mask that is not causal (bidirectional, packed or "
            "prefix attention), which an evicting memory does not serve."
        )
    return attention_mask


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
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.no_grad():
        out = layer.attend(query, key, value, attention_mask, factor, sliding_window)
    return out.transpose(1, 2), None
