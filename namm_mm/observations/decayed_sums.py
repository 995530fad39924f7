"""Decayed sums: the attention that each token received, older attention counting less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.observations.base import ColumnStatistic

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DecayedSums(ColumnStatistic):
    """Exponential sum of the attention received.

    ``statistics["decayed_sums"]`` is (row, kv_head, slot) float32.

    Attributes
    ----------
    decay
        What each further query leaves of the sum, above 0 and at most 1.
    """

    decay: float
    name: ClassVar[str] = "decayed_sums"

    def __post_init__(self) -> None:
        if not 0.0 < self.decay <= 1.0:
            raise UsageError(
                message(
                    "wrong decay of the attention received",
                    given=self.decay,
                    expected="what a query leaves of the sum, above 0 and at most 1",
                )
            )

    def merge(self, held: Tensor, weights: Tensor) -> Tensor:
        """Let the sum decay and add the new attention, that of the newest query in full."""
        import torch

        queries = weights.shape[2]
        left = self.decay ** torch.arange(queries - 1, -1, -1, device=weights.device)
        return held * self.decay**queries + torch.einsum("rhqs,q->rhs", weights, left)
