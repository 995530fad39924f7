"""Random eviction: what any policy must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.policies.base import (
    QUARTER,
    LayerView,
    Observation,
    Selection,
    check_recents,
    newest_first,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Random:
    """Every token draws one score for each layer and head and keeps it for good.

    The draw is a hash of (seed, layer, head, position): the same alone and in a batch, anywhere.
    Keeping the best of fixed draws is reservoir sampling: at any time all tokens seen so far are
    equally likely to be held. The first `sinks` tokens and the `recents` newest always stay.
    """

    selection: Selection = QUARTER
    seed: int = 0
    sinks: int = 4
    recents: int = 0
    name: str = "random"
    needs: Observation = Observation.NONE

    def __post_init__(self) -> None:
        check_recents(self.recents)

    def score(self, view: LayerView) -> Tensor:
        """Uniform in [0, 1); the first `sinks` tokens 1."""
        import torch

        heads = torch.arange(view.positions.shape[1], device=view.positions.device)
        stream = (self.seed * view.layers + view.layer) * len(heads) + heads
        bits = _mix(_mix(stream[:, None] + 1) + view.positions)
        score = bits.double() / float(1 << 31)
        score = score.float().masked_fill(view.positions < self.sinks, 1.0)
        return newest_first(score, view, self.recents)


def _mix(bits: Tensor) -> Tensor:
    """A 31-bit integer hash (xor-shift and multiply, after splitmix), exact in int64 arithmetic."""
    for shift, factor in ((16, 0x45D9F3B), (15, 0x2C1B3C6D), (16, 0x1)):
        bits = (bits ^ (bits >> shift)) * factor & 0x7FFFFFFF
    return bits
