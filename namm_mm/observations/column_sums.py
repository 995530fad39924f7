"""Column sums: the attention that each token received so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.observations.base import ColumnStatistic

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ColumnSums(ColumnStatistic):
    """Attention received, summed over all queries (H2O, arXiv 2306.14048, section 4).

    ``statistics["column_sums"]`` is (row, kv_head, slot) float32.
    """

    name: ClassVar[str] = "column_sums"

    def merge(self, held: Tensor, weights: Tensor) -> Tensor:
        """Add the sums of the new queries."""
        return held + weights.sum(2)
