"""Running maximum: what one query once looked at hard, however long ago."""

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
class AttentionMax:
    """The most attention that any query gave so far, plus the newest tokens.

    Nothing is learned, and nothing fades: a burst of attention, such as the second mention of a key
    that reads the first, is remembered for ever. A hard baseline for long text.
    """

    selection: Selection = QUARTER
    recents: int = 16
    name: str = "attention_max"
    needs: Observation = Observation.COLUMN_MAXIMA

    def __post_init__(self) -> None:
        check_recents(self.recents)

    def score(self, view: LayerView) -> Tensor:
        """Column maxima; the newest tokens score above them, the newest highest."""
        return newest_first(view.statistics["column_maxima"], view, self.recents)
