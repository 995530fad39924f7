"""Random eviction: what any policy must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Random(Policy):
    """Every token draws one score for each layer and head and keeps it for good.

    The draw is a hash of (seed, layer, head, position): the same alone and in a batch, anywhere.
    Keeping the best of fixed draws is reservoir sampling: at any time all tokens seen so far are
    equally likely to be held. The first `sinks` tokens come before all others, whatever the limit.
    """

    name: ClassVar[str] = "random"
    seed: int = 0
    sinks: float = 4

    def score(self, view: LayerView) -> Tensor:
        """Uniform in [0, 1); the first `sinks` tokens 1."""
        import torch

        heads = torch.arange(view.positions.shape[1], device=view.positions.device)
        stream = (self.seed * view.layers + view.layer) * len(heads) + heads
        bits = _hash(_hash(stream[:, None] + 1) + view.positions)
        score = bits.double() / float(1 << 31)
        return score.float().masked_fill(view.positions < self.sinks, 1.0)


def _hash(bits: Tensor) -> Tensor:
    """A 31-bit integer hash (xor-shift and multiply, after splitmix), exact in int64 arithmetic."""
    for shift, factor in ((16, 0x45D9F3B), (15, 0x2C1B3C6D), (16, 0x1)):
        bits = (bits ^ (bits >> shift)) * factor & 0x7FFFFFFF
    return bits
