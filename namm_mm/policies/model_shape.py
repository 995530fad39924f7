"""The attention heads of a model, as its configuration tells them."""

from __future__ import annotations

from typing import Any, NamedTuple


class Heads(NamedTuple):
    """Query heads, key-value heads, and the size of one, the same in all layers."""

    query: int
    kv: int
    size: int


def heads_of(config: Any) -> Heads:
    """Return the heads of the decoder that `config` describes.

    Families without ``num_key_value_heads`` have as many as query heads; those without ``head_dim``
    divide the width of the model.
    """
    plain, heads = config.to_dict(), int(config.num_attention_heads)
    return Heads(
        query=heads,
        kv=int(plain.get("num_key_value_heads") or heads),
        size=int(plain.get("head_dim") or config.hidden_size // heads),
    )
