"""TOVA: the newest query decides, for all heads of a layer together (arXiv 2401.06104)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.observations.last_queries import LastQueries
from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tova(Policy):
    """Attention weight of the newest query, mean over all heads of the layer.

    All heads score a token alike, so with equal budgets they hold the same tokens. Where heads hold
    different tokens, a head that has dropped a token counts as weight 0.
    """

    name: ClassVar[str] = "tova"
    needs: ClassVar[LastQueries] = LastQueries(1)
    least_tokens: ClassVar[int] = 2  # the newest stays

    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot): the mean weight of the token's position."""
        weights = view.statistics["last_queries"][:, :, -1]
        rows, heads, slots = view.positions.shape
        by_head = weights.view(rows, heads, -1, slots).sum(2).masked_fill(~view.filled, 0.0)
        place = view.positions.clamp_min(0).flatten(1)
        table = by_head.new_zeros(rows, view.seen).scatter_add_(1, place, by_head.flatten(1))
        return table.gather(1, place).view(rows, heads, slots) / weights.shape[1]
