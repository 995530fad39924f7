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

    Sums are of the pruned softmax, as in the authors' code that really drops tokens. The newest
    tokens are protected: they have no sum yet to be judged by. The authors give half of the budget
    to recent tokens; a fixed few, and half where that is fewer, leave more room to heavy hitters.
    """

    name: ClassVar[str] = "h2o"
    needs: ClassVar[ColumnSums] = ColumnSums()
    recents: int = 16

    def score(self, view: LayerView) -> Tensor:
        """Column sums."""
        return view.statistics["column_sums"]
