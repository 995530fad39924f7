"""H2O, heavy hitters: the tokens that received most attention so far (arXiv 2306.14048)."""

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
class H2O:
    """Attention summed over all queries so far, mean over the query group, plus the newest tokens.

    Sums are of the pruned softmax, as in the authors' code that really drops tokens. The `recents`
    newest tokens are protected: what nobody could look at yet has no sum to be judged by. The
    authors give half of the budget to recent tokens; a fixed few, and half where that is fewer,
    leave more room to heavy hitters.
    """

    selection: Selection = QUARTER
    recents: int = 16
    name: str = "h2o"
    needs: Observation = Observation.COLUMN_SUMS

    def __post_init__(self) -> None:
        check_recents(self.recents)

    def score(self, view: LayerView) -> Tensor:
        """Column sums; the newest tokens score above them, the newest highest."""
        return newest_first(view.statistics["column_sums"], view, self.recents)
