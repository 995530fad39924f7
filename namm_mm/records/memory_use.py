"""What the cache of one row held: :class:`MemoryUse` at the end, :class:`Trace` at each update."""

from __future__ import annotations

from dataclasses import dataclass, replace

STORAGES = ("shared", "per_head")
"""Whether the heads of a layer keep equally many tokens, or each its own number."""

PROTOCOLS = ("streaming", "prune_after_prefill")
"""Whether a memory evicts at every interval, or once after the prompt."""


@dataclass(frozen=True)
class MemoryUse:
    """What the cache of one row held.

    Attributes
    ----------
    seen
        Real tokens that the row has processed (padding excluded).
    updates
        Number of eviction rounds.
    kept_by_layer
        Tokens kept at the end, mean over heads, for each layer.
    tokens_peak, tokens_final
        Cached tokens, mean over layers and heads: the largest at any time, and at the end.
    bytes_peak, bytes_final
        Allocated bytes of keys, values, positions and policy state over all layers.
    live_peak, live_final
        Those of them that hold something: room for tokens to come is left out. None in records of
        version 0.1.0.
    seen_updated, tokens_updated, live_updated
        Tokens seen at the last update, and the cached tokens and live bytes right after it: there a
        budget holds. What comes later is held until the next update. None without an update, and in
        older records.
    """

    seen: int
    updates: int
    kept_by_layer: tuple[float, ...]
    tokens_peak: float
    tokens_final: float
    bytes_peak: int
    bytes_final: int
    live_peak: int | None = None
    live_final: int | None = None
    seen_updated: int | None = None
    tokens_updated: float | None = None
    live_updated: int | None = None

    @property
    def kept_fraction(self) -> float | None:
        """Tokens in the cache at the end, as a part of those seen; None where none were seen."""
        return self.tokens_final / self.seen if self.seen else None


@dataclass(frozen=True)
class Trace:
    """How many tokens one row kept, at every update, in every layer and head.

    This is what ``match`` budgets replay: a baseline that follows a trace holds the same number of
    tokens as the traced run at every moment, in every layer.

    Attributes
    ----------
    sizes
        ``sizes[update][layer][head]``: tokens kept right after that update.
    bytes_per_token
        Bytes that the policy remembered for each token and head, beside key, value and position.
    state_bytes
        Bytes that the policy held once for each head of the sequence, however many its tokens.
    """

    sizes: tuple[tuple[tuple[int, ...], ...], ...] = ()
    bytes_per_token: int = 0
    state_bytes: int = 0

    def at(self, update: int, layer: int) -> tuple[int, ...] | None:
        """Return the sizes of the heads right after `update` in `layer`, or after the last one."""
        if not self.sizes:
            return None
        return self.sizes[min(update, len(self.sizes) - 1)][layer]

    def even_heads(self) -> Trace:
        """Return a trace with as many tokens in every layer, spread evenly over its heads."""
        even = tuple(
            tuple(_even(sum(layer), len(layer)) for layer in update) for update in self.sizes
        )
        return replace(self, sizes=even)

    def even_layers(self) -> Trace:
        """Return a trace with as many tokens at each update, even over layers and heads."""
        spread = []
        for update in self.sizes:
            sizes = iter(_even(sum(map(sum, update)), sum(map(len, update))))
            spread.append(tuple(tuple(next(sizes) for _ in layer) for layer in update))
        return replace(self, sizes=tuple(spread))


def _even(total: int, parts: int) -> tuple[int, ...]:
    share, rest = divmod(total, parts)
    return tuple(share + (index < rest) for index in range(parts))
