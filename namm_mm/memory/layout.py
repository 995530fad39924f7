"""Which layers of a decoder cache keys and values, and which carry a state of their own.

A hybrid model has layers that are no attention: convolutions, state spaces, linear attention. Their
state has a constant size, so nothing is evicted from it: it is kept as transformers keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers.cache_utils import (
    DummyLayer,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

from namm_mm.errors import UnsupportedError, message

ATTENTION = (DynamicLayer, DynamicSlidingWindowLayer)
BOTH = (LinearAttentionAndFullAttentionLayer, LinearAttentionAndSlidingWindowAttentionLayer)
OTHER = (LinearAttentionLayer, DummyLayer)


@dataclass(frozen=True)
class Layout:
    """The cache that each layer of a decoder has.

    Attributes
    ----------
    kinds
        Class of each layer's cache in transformers.
    states
        Number of states of each layer; 0 where it has none.
    """

    kinds: tuple[type, ...]
    states: tuple[int, ...]

    @classmethod
    def plain(cls, layers: int) -> Layout:
        """`layers` layers of attention."""
        return cls((DynamicLayer,) * layers, (0,) * layers)

    @classmethod
    def of(cls, config: Any) -> Layout:
        """Return the layout of the decoder that `config` describes.

        Raises
        ------
        UnsupportedError
            A layer caches what is neither keys and values nor a state, or none is attention.
        """
        plain = config.to_dict()
        types = plain.get("layer_types") or ()
        if plain.get("cross_attention_layers"):
            raise _refusal("layers that attend to an image")
        if plain.get("num_kv_shared_layers"):
            raise _refusal("layers that reuse the keys of other layers")
        if "chunked_attention" in types:
            raise _refusal("layers of kind 'chunked_attention'")
        try:
            count = int(config.num_hidden_layers)
            layers = DynamicCache(config=config).layers
        except AttributeError as error:
            raise _refusal("a model that is not one stack of layers") from error
        except KeyError as error:
            raise _refusal(f"layers of kind {error}") from error
        if not layers:
            return cls.plain(count)
        kinds = tuple(type(layer) for layer in layers)
        if strange := sorted({kind.__name__ for kind in kinds} - _NAMES):
            raise _refusal(f"layers that cache with {', '.join(strange)}")
        states = [
            layer.number_of_states if isinstance(layer, LinearAttentionLayer) else 0
            for layer in layers
        ]
        found = cls(kinds, tuple(states))
        if not found.attention:
            raise _refusal("no layer of attention")
        return found

    @property
    def attention(self) -> int:
        """Number of layers that cache keys and values."""
        return sum(kind in (*ATTENTION, *BOTH) for kind in self.kinds)


def _refusal(given: str) -> UnsupportedError:
    return UnsupportedError(
        message(
            "cannot attach a memory",
            given=given,
            expected="layers of full or sliding attention, alone or among layers with a state",
        )
    )


_NAMES = {kind.__name__ for kind in (*ATTENTION, *BOTH, *OTHER)}
