"""Which tokens a memory still holds, by kind of token and by index (frame, timestep)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from namm_mm.memory import Memory
    from namm_mm.records import ReencodingAgent, TokenType

DIGITS = 4


def kept_fractions(
    memory: Memory | ReencodingAgent, token_types: Sequence[TokenType], row: int = 0
) -> list[float]:
    """Return for each token the part of all layers and heads that still hold it."""
    held = np.zeros(len(token_types))
    heads = 0
    for layer in range(memory.layers):
        for positions in memory.kept(layer, row):
            heads += 1
            known = positions.numpy()
            held[known[known < len(token_types)]] += 1  # generated tokens have no type
    fractions: list[float] = (held / max(heads, 1)).tolist()
    return fractions


def by_kind(fractions: Sequence[float], token_types: Sequence[TokenType]) -> Mapping[str, float]:
    """Return the mean of `fractions` over the tokens of each kind."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for token_type, fraction in zip(token_types, fractions, strict=True):
        kinds[token_type.kind].append(fraction)
    return {kind: _mean(values) for kind, values in kinds.items()}


def by_index(
    fractions: Sequence[float], token_types: Sequence[TokenType]
) -> Mapping[str, tuple[float, ...]]:
    """Return the mean of each index, in order, for kinds that have several: frames, timesteps."""
    kinds: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for token_type, fraction in zip(token_types, fractions, strict=True):
        kinds[token_type.kind][token_type.index].append(fraction)
    return {
        kind: tuple(_mean(indices[index]) for index in sorted(indices))
        for kind, indices in kinds.items()
        if len(indices) > 1
    }


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), DIGITS)
