"""H2O, heavy hitters: the tokens that received most attention so far (arXiv 2306.14048)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.observations import ColumnSums
from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class H2O(Policy):
    """Attention summed over all queries so far, mean over the query group, plus the newest tokens.

    Sums are of the pruned softmax, as in the authors' code that really drops tokens. As published,
    half of the budget belongs to the newest tokens, which have no sum yet to be judged by.
    """

    name: ClassVar[str] = "h2o"
    needs: ClassVar[ColumnSums] = ColumnSums()
    recents: float = 0.5

    def score(self, view: LayerView) -> Tensor:
        """Column sums."""
        return view.statistics["column_sums"]


@dataclass(frozen=True)
class H2O16(H2O):
    """H2O that protects 16 recent tokens, and leaves the rest of the budget to heavy hitters.

    Our setting, not the authors'. The tokens take half of the budget at most.
    """

    name: ClassVar[str] = "h2o_16"
    recents: float = 16
