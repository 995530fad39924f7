"""Attach a memory to a transformers model for the length of a ``with`` block.

Three public doors of transformers are used and nothing is patched: a registered attention function,
a registered mask function, and a cache class. A forward pre-hook puts our cache where a call brings
none (or a fresh, empty one, as ``generate`` does). Leaving the block takes all of it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import causal_mask_function

from namm_mm.errors import RunError, UnsupportedError, UsageError, message
from namm_mm.memory.cache import EvictingCache, forget_pending, take_pending
from namm_mm.memory.layer import Rules
from namm_mm.memory.watch import Watcher
from namm_mm.policies.base import Policy
from namm_mm.records import PROTOCOLS, STORAGES, MemoryUse, Trace

# "sdpa" or "flash" must not be part of the name: transformers dispatches on substrings.
ATTENTION = "namm_memory"
# Extra arguments of attention functions that change what is computed.
_CHANGES_ATTENTION = ("softcap", "s_aux", "position_bias", "head_mask", "block_table")


class Memory:
    """A policy at work on a model: makes the caches and tells what they kept.

    Parameters
    ----------
    layers
        Attention layers of the model.
    rules
        Policy, interval, storage and protocol.
    """

    def __init__(self, layers: int, rules: Rules) -> None:
        self.layers = layers
        self.rules = rules
        self._cache: EvictingCache | None = None

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        return self.rules.policy

    @property
    def interval(self) -> int:
        """Tokens between two evictions, counted per row."""
        return self.rules.interval

    @property
    def cache(self) -> EvictingCache:
        """The cache of the newest sequences; pass it as ``past_key_values`` to go on with them."""
        if self._cache is None:
            self._cache = EvictingCache(self.layers, self.rules)
        return self._cache

    @property
    def rows(self) -> int:
        """Number of sequences in the cache; 0 before the first call."""
        return 0 if self._cache is None else self._cache.batch

    def reset(self) -> None:
        """Forget: the next call begins new sequences."""
        self._cache = None

    def usage(self, row: int = 0) -> MemoryUse:
        """Return the tokens and bytes of one row, now and at their peak."""
        return self.cache.usage(row)

    def trace(self, row: int = 0) -> Trace:
        """Return the sizes of one row after every update, for a ``match:`` budget."""
        return self.cache.trace(row)

    def kept(self, layer: int, row: int = 0) -> list[Tensor]:
        """Return the positions that each head still holds, ascending int64 on the CPU.

        A position is the index of a token in its row; padding is not counted.
        """
        return self.cache.kept(layer, row)


@contextmanager
def attach(
    model: nn.Module,
    policy: Policy,
    *,
    interval: int = 512,
    storage: str = "shared",
    protocol: str = "streaming",
    watcher: Watcher | None = None,
) -> Iterator[Memory]:
    """Give `model` a forgetting memory.

    Inside the block, a call of the model that brings no cache begins new sequences; one that brings
    ``past_key_values=memory.cache`` goes on with them, as ``generate`` does by itself after its
    first step.

    Parameters
    ----------
    model
        A transformers decoder, or a model that holds one (a video model): any whose forward takes
        ``past_key_values``. It must be in evaluation mode.
    policy
        Decides what stays.
    interval
        Tokens between two evictions, counted per row (512 in the paper).
    storage
        ``shared``: all heads of a layer keep the same number, the largest that any asks for (the
        official rule). ``per_head``: every head keeps its own number, and the rest is freed.
    protocol
        ``streaming``: evict at every interval, in the prompt too, so that later tokens see only
        what was kept (the official rule). ``prune_after_prefill``: attend over the whole prompt,
        evict once at its end, then keep all.
    watcher
        Is called with an :class:`~namm_mm.memory.watch.Update` after every eviction, layer by
        layer: what stayed, and the scores. Without one, nothing is copied.

    Yields
    ------
    Memory
        Filled as the model runs, readable after the block as well.

    Raises
    ------
    UsageError
        A wrong interval, storage or protocol.
    UnsupportedError
        A model that cannot carry an evicting memory, with the reason.
    """
    _check_options(policy, interval, storage, protocol)
    config = _decoder_config(model)
    rules = Rules(policy, interval, storage == "per_head", protocol == "streaming", watcher)
    memory = Memory(config.num_hidden_layers, rules)
    before = config._attn_implementation
    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, _mask)
    hook = model.register_forward_pre_hook(
        lambda _module, args, kwargs: (args, _with_cache(memory, kwargs)), with_kwargs=True
    )
    config._attn_implementation_internal = ATTENTION
    try:
        yield memory
    finally:
        config._attn_implementation_internal = before
        hook.remove()
        forget_pending()


def _check_options(policy: Policy, interval: int, storage: str, protocol: str) -> None:
    for name, given, valid in (
        ("storage", storage, STORAGES),
        ("protocol", protocol, PROTOCOLS),
    ):
        if given not in valid:
            raise UsageError(message(f"unknown {name}", given=given, expected="one", valid=valid))
    if interval < 1:
        raise UsageError(message("wrong interval", given=interval, expected="1 token or more"))
    if not isinstance(policy, Policy):
        raise UsageError(
            message(
                "no policy",
                given=type(policy).__name__,
                expected="a subclass of namm_mm.policies.Policy",
            )
        )
    if policy.needs is not None:
        policy.needs.check_interval(interval)


def _decoder_config(model: nn.Module) -> Any:
    """Configuration of the decoder inside `model`, checked."""
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        raise UnsupportedError(
            message(
                "cannot attach a memory",
                given=type(model).__name__,
                expected="a transformers model with a configuration",
                then="Attach to the decoder itself.",
            )
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedError(
            message(
                "cannot attach a memory",
                given=type(model).__name__,
                expected="a decoder-only model: cross-attention is not served",
            )
        )
    config = config.get_text_config(decoder=True)
    if config._attn_implementation == ATTENTION:
        raise UsageError(
            f"{type(model).__name__} carries a memory already. Leave the first `with attach(...)` "
            "before the next."
        )
    kinds = set(getattr(config, "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
    }
    if kinds:
        raise UnsupportedError(
            message(
                "cannot attach a memory",
                given=sorted(kinds),
                expected="layers of full or sliding attention",
            )
        )
    return config


def _with_cache(memory: Memory, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Put our cache into the arguments of the model's forward."""
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
    memory.reset()
    return {**kwargs, "past_key_values": memory.cache, "use_cache": True}


def _mask(
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


def _attention(
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
