"""How much each head needs memory, and how a budget is divided by that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from namm_mm.errors import UsageError, message

HeadNeeds = Sequence[Sequence[float]]
"""For each layer and kv head how much it looks things up."""

Windows = Sequence[int | None]
"""For each layer its sliding window in tokens; None where it has none."""

STEPS = 60
"""Halvings of the interval in which the factor of the needs lies: more than a float can tell."""

EPSILON = 1e-6
"""Of a token: what a size may lack of a whole one, so that none is rounded down for nothing."""

LEAST = 1e-4
"""A need below this counts as this much: where no head needs anything, all get the same."""


@dataclass(frozen=True)
class Probe:
    """What a memory shall let the model read to measure its heads.

    Attributes
    ----------
    tokens
        Random tokens that are said twice.
    between
        Other random tokens between the two times.
    rows
        Number of such sequences.
    seed
        Of the random tokens.
    """

    tokens: int
    between: int
    rows: int
    seed: int = 0


@dataclass(frozen=True)
class HeadNeed:
    """What a probe of a model measured in each kv head.

    Attributes
    ----------
    needs
        ``needs[layer][kv_head]``, 0 or more. Empty as long as no model was probed.
    floor
        Part of an equal share that each head keeps in any case, 0 to 1.
    windows
        The sliding window of each layer in tokens; None where a layer has none. Empty is no window.
    """

    needs: tuple[tuple[float, ...], ...] = ()
    floor: float = 0.25
    windows: tuple[int | None, ...] = ()

    def sizes(self, layer: int, size: int, seen: int) -> tuple[int, ...]:
        """Return the tokens of each head of `layer`, where `size` is the mean of all heads.

        A head holds ``floor * size + factor * need`` tokens, and at most all that it can see; the
        factor is such that the mean is `size`.

        Raises
        ------
        UsageError
            No model was probed.
        """
        if not self.needs:
            raise UsageError(
                message(
                    "no model was probed",
                    given="sizes of heads that nobody measured",
                    expected="a policy that a memory has fitted to its model",
                    then="Use namm_mm.attach(model, policy).",
                )
            )
        return _sizes(self, size, seen)[layer]

    def whole(self, layer: int, part: float) -> tuple[bool, ...]:
        """Tell which heads of `layer` hold all tokens, where the mean of all holds `part` of them.

        They do so for every larger part, too. Where layers have windows, nothing is promised.
        """
        if any(window is not None for window in self.windows):
            return (False,) * len(self.needs[layer])
        return _whole_heads(self, part)[layer]


@lru_cache(maxsize=256)
def _sizes(need: HeadNeed, size: int, seen: int) -> tuple[tuple[int, ...], ...]:
    windows = need.windows or (None,) * len(need.needs)
    most = tuple(seen if window is None else min(seen, window) for window in windows)
    total = size * sum(len(layer) for layer in need.needs)
    return _whole(_held(need, _factor(need, size, most, total), size, most), total)


@lru_cache(maxsize=8)
def _whole_heads(need: HeadNeed, part: float) -> tuple[tuple[bool, ...], ...]:
    total = part * sum(len(layer) for layer in need.needs)
    factor = _factor(need, part, (1.0,) * len(need.needs), total)
    held = _held(need, factor, part, (math.inf,) * len(need.needs))
    return tuple(tuple(tokens >= 1.0 + EPSILON for tokens in layer) for layer in held)


def _factor(need: HeadNeed, size: float, most: Sequence[float], total: float) -> float:
    """Of the needs: heads of at most `most` in each layer hold `total` then."""
    low, high = 0.0, max(most) / LEAST
    for _ in range(STEPS):
        factor = (low + high) / 2
        held = sum(map(sum, _held(need, factor, size, most)))
        low, high = (factor, high) if held < total else (low, factor)
    return low


def _whole(held: Sequence[Sequence[float]], total: int) -> tuple[tuple[int, ...], ...]:
    """Whole tokens whose sum is `total`: those that lack least of one are rounded up."""
    sizes = [[max(1, int(tokens + EPSILON)) for tokens in layer] for layer in held]
    lacking = [
        (sizes[layer][head] - tokens, layer, head)
        for layer, heads in enumerate(held)
        for head, tokens in enumerate(heads)
        if tokens > sizes[layer][head]
    ]
    for _, layer, head in sorted(lacking)[: max(0, total - sum(map(sum, sizes)))]:
        sizes[layer][head] += 1
    return tuple(map(tuple, sizes))


def _held(need: HeadNeed, factor: float, size: float, most: Sequence[float]) -> list[list[float]]:
    """Tokens of each head, layer by layer."""
    return [
        [min(float(limit), need.floor * size + factor * max(value, LEAST)) for value in layer]
        for layer, limit in zip(need.needs, most, strict=True)
    ]
