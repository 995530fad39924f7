"""Which tokens a memory still holds, told in the words of the modality: frames, states, text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from namm_mm.records import MemoryUse, Role, Trace

DIGITS = 4


class Holder(Protocol):
    """What can tell what it held: a memory, or an agent that encodes its window anew."""

    @property
    def layers(self) -> int:
        """Attention layers of the model."""
        ...

    def usage(self, row: int = 0) -> MemoryUse:
        """Tokens and bytes of one row."""
        ...

    def kept(self, layer: int, row: int = 0) -> list[Tensor]:
        """Positions that each head holds."""
        ...

    def trace(self, row: int = 0) -> Trace:
        """Sizes after every update."""
        ...


def kept_fractions(memory: Holder, roles: Sequence[Role], row: int = 0) -> list[float]:
    """For each token that has a role, the part of all layers and heads that still hold it."""
    held = np.zeros(len(roles))
    heads = 0
    for layer in range(memory.layers):
        for positions in memory.kept(layer, row):
            heads += 1
            known = positions.numpy()
            held[known[known < len(roles)]] += 1  # generated tokens have no role
    fractions: list[float] = (held / max(heads, 1)).tolist()
    return fractions


def by_role(fractions: Sequence[float], roles: Sequence[Role]) -> Mapping[str, float]:
    """Mean of `fractions` over the tokens of each kind."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for role, fraction in zip(roles, fractions, strict=True):
        kinds[role.kind].append(fraction)
    return {kind: _mean(values) for kind, values in kinds.items()}


def by_index(fractions: Sequence[float], roles: Sequence[Role]) -> Mapping[str, tuple[float, ...]]:
    """Mean of each index, in order, for kinds of more than one: frames, timesteps."""
    kinds: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for role, fraction in zip(roles, fractions, strict=True):
        kinds[role.kind][role.index].append(fraction)
    return {
        kind: tuple(_mean(indices[index]) for index in sorted(indices))
        for kind, indices in kinds.items()
        if len(indices) > 1
    }


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), DIGITS)
