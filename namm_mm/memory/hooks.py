"""What an attached memory gives a model: its cache, its mask function, its attention function."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function

from namm_mm.errors import RunError, UnsupportedError, UsageError, message
from namm_mm.memory.cache import EvictingCache, forget_pending, take_pending
from namm_mm.memory.caches import Caches
from namm_mm.observations.formula import Formula

# Extra arguments of attention functions that change what is computed.
_CHANGES_ATTENTION = ("position_bias", "head_mask", "block_table")


@dataclass
class _Call:
    """The running call of a model.

    Attributes
    ----------
    model
        Name of its class.
    own_attention
        Whether it computes attention in code of its own.
    masks
        The kinds of mask that it has asked for: ``causal``, ``sliding``.
    """

    model: str
    own_attention: bool
    masks: set[str] = field(default_factory=set)


_CALL: ContextVar[_Call | None] = ContextVar("call", default=None)


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
    _check_tokens(args, kwargs)
    name = type(model).__name__
    if caches.carrier.own_cache:
        raise UnsupportedError(
            f"{name} keeps a cache of its own and takes no other: it cannot carry an evicting "
            "memory."
        )
    _CALL.set(_Call(name, caches.carrier.own_attention))
    if _guides(args, kwargs) and caches.at_work():
        cache = caches.begin_beside()
    else:
        cache = caches.for_call(kwargs.get("past_key_values"))
    cache.sequences.prompt.note(kwargs.get("attention_mask"), kwargs.get("position_ids"))
    return {**kwargs, "past_key_values": cache, "use_cache": True}


def _check_tokens(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call without tokens, and rows of several sequences, which would share a memory."""
    for given in (*args[:1], kwargs.get("input_ids"), kwargs.get("inputs_embeds")):
        if isinstance(given, Tensor) and given.dim() > 1 and not given.shape[1]:
            raise UsageError(
                message("empty prompt", given="0 tokens", expected="a batch with 1 token or more")
            )
    positions = kwargs.get("position_ids")
    if kwargs.get("attention_mask") is not None or not isinstance(positions, Tensor):
        return
    if positions.dim() == 2 and positions.shape[1] > 1 and bool((positions.diff() < 0).any()):
        raise UnsupportedError(
            "position_ids start anew within a row: packed sequences would share one memory. Give "
            "each sequence a row of its own, and an attention_mask where rows are padded."
        )


def _guides(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether this looks like the first call that ``guidance_scale`` makes beside the prompt's."""
    names = {"attention_mask", "use_cache", "past_key_values"}
    return len(args) == 1 and kwargs.keys() == names and kwargs["past_key_values"] is None


def end_call() -> None:
    """Forget the running call, after an error too."""
    _CALL.set(None)
    forget_pending()


def after_call(model: nn.Module, kwargs: Mapping[str, Any]) -> None:
    """Raise `UnsupportedError` if a layer of `model` did not run the memory's attention."""
    cache = kwargs["past_key_values"]
    if isinstance(cache, EvictingCache):
        cache.check_served(type(model).__name__)


def pass_padding(
    *, mask_function: Any, attention_mask: Tensor | None, config: Any, **kwargs: Any
) -> Tensor | None:
    """Pass the padding (row, column) on as it is; causality follows from positions."""
    call = _CALL.get()
    if call is not None and call.own_attention:
        raise UnsupportedError(
            f"{call.model} computes attention in code of its own and does not call the function "
            "that transformers lets one choose: it cannot carry an evicting memory."
        )
    kind = "causal" if mask_function is causal_mask_function else "sliding"
    if mask_function is bidirectional_mask_function:
        return torch.empty(0)  # refused where a layer uses it; cross-attention may not
    if kwargs.get("use_vmap") or (kind == "sliding" and not _is_sliding(mask_function)):
        raise _not_causal(type(config).__name__)
    if call is not None:
        call.masks.add(kind)
    return attention_mask


def _is_sliding(mask_function: Any) -> bool:
    """Whether a mask function is a causal one in a sliding window, and nothing besides."""
    parts = inspect.getclosurevars(mask_function).nonlocals.get("mask_functions", ())
    names = {part.__qualname__.partition(".")[0] for part in parts}
    made = mask_function.__qualname__.partition(".")[0]
    return made == "and_masks" and names == {"sliding_window_overlay", "causal_mask_function"}


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
    layer, call = take_pending(key), _CALL.get()
    if layer is None:
        raise _without_cache(type(module).__name__, call)
    if attention_mask is not None and attention_mask.dim() == 1:
        raise _not_causal(type(module).__name__)
    if attention_mask is not None and attention_mask.dim() != 2:
        raise UnsupportedError(
            message(
                "wrong attention mask",
                given=tuple(attention_mask.shape),
                expected="a padding mask (row, column): other masks are made from positions",
            )
        )
    if vars(module).get("is_causal") is False:
        raise _not_causal(type(module).__name__)
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
    if sliding_window is None and call is not None and call.masks == {"sliding"}:
        # Some families put the window into the mask alone, the same for all layers.
        sliding_window = module.config.sliding_window  # type: ignore[union-attr, assignment]
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.no_grad():
        formula = Formula(factor, sliding_window, kwargs.get("softcap"), kwargs.get("s_aux"))
        out = layer.attend(query, key, value, attention_mask, formula)
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
        out = _RefuseGradients.apply(out, query, key, value)  # type: ignore[no-untyped-call]
    return out.transpose(1, 2).contiguous(), None


def _not_causal(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} asks for a mask that is not causal (bidirectional, packed or prefix attention), "
        "which an evicting memory does not serve."
    )


def _without_cache(module: str, call: _Call | None) -> Exception:
    """Return the error for a call of attention whose keys the cache was not given."""
    if call is None:
        return RunError(
            f"{module} ran attention without the memory's cache. Call the model that the memory is "
            "attached to, attach to the part that `generate` runs (such as "
            "`model.language_model`), or pass `past_key_values=memory.cache`."
        )
    return UnsupportedError(
        f"{module} runs attention on keys that it did not give to its cache just before: those of "
        f"another layer, or the same keys twice. {call.model} cannot carry an evicting memory."
    )
