"""Readers: tokens that many queries looked at stay, however little each of them looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.observations import ColumnStatistic
from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ReaderCounts(ColumnStatistic):
    """How many queries gave a token more than an equal share: (row, kv_head, slot)."""

    name: ClassVar[str] = "reader_counts"

    def merge(self, held: Tensor, weights: Tensor) -> Tensor:
        """Count the new queries."""
        share = 1.0 / (weights > 0).sum(-1, keepdim=True)
        return held + (weights > share).sum(2)


@dataclass(frozen=True)
class Readers(Policy):
    """The tokens with the most readers stay, and the newest ones."""

    name: ClassVar[str] = "readers"
    needs: ClassVar[ReaderCounts] = ReaderCounts()
    recents: int = 8

    def score(self, view: LayerView) -> Tensor:
        """Number of readers."""
        return view.statistics["reader_counts"]
