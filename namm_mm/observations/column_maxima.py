"""Column maxima: the most attention that one query gave to each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.observations.base import ColumnStatistic

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ColumnMaxima(ColumnStatistic):
    """The largest weight so far, of the mean over the query group.

    ``statistics["column_maxima"]`` is (row, kv_head, slot) float32.
    """

    name: ClassVar[str] = "column_maxima"

    def merge(self, held: Tensor, weights: Tensor) -> Tensor:
        """Take the larger one."""
        import torch

        return torch.maximum(held, weights.amax(2))
