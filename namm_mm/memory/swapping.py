"""Swap the attention of a model for the length of a ``with`` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface


@contextmanager
def swapped_attention(
    config: Any,
    name: str,
    attention: Callable[..., Any] | None = None,
    mask: Callable[..., Any] | None = None,
) -> Iterator[None]:
    """Let the layers of a decoder call another attention function inside the block.

    Nothing is patched: transformers looks the function up under the name in the configuration.

    Parameters
    ----------
    config
        Configuration of the decoder: ``model.config.get_text_config(decoder=True)``.
    name
        Name of the attention function. transformers dispatches on substrings: a new name must not
        contain "sdpa", "flash", "eager" or "flex".
    attention
        The function, as transformers calls attention functions; None where `name` is known already.
    mask
        Makes the mask that `attention` is given. Without one, a new name is given none.

    Yields
    ------
    None
        Leaving the block, on an exception too, gives the configuration back.
    """
    if attention is not None:
        AttentionInterface.register(name, attention)
    if mask is not None:
        AttentionMaskInterface.register(name, mask)
    before = config._attn_implementation
    config._attn_implementation_internal = name
    try:
        yield
    finally:
        config._attn_implementation_internal = before
