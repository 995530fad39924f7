"""Running maximum: what one query once looked at hard, however long ago."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.observations import ColumnMaxima
from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AttentionMax(Policy):
    """The most attention that any query gave so far, plus the newest tokens.

    Nothing is learned, and nothing decays: a burst of attention, such as the second mention of a
    key that reads the first, is remembered for ever. A hard baseline for long text.
    """

    name: ClassVar[str] = "attention_max"
    needs: ClassVar[ColumnMaxima] = ColumnMaxima()
    recents: float = 16

    def score(self, view: LayerView) -> Tensor:
        """Column maxima."""
        return view.statistics["column_maxima"]
