"""Slow mean: the attention a token receives, slowly forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.errors import UsageError, message
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
class AttentionEma:
    """Exponential sum of the attention received, plus the newest tokens.

    What a NAMM sees, without the network: its first frequency bin, unlearned. Decay 1 is H2O.
    """

    selection: Selection = QUARTER
    decay: float = 0.999
    recents: int = 16
    name: str = "attention_ema"
    needs: Observation = Observation.DECAYED_SUMS

    def __post_init__(self) -> None:
        check_recents(self.recents)
        if not 0.0 < self.decay <= 1.0:
            raise UsageError(
                message(
                    "wrong decay of attention_ema",
                    given=self.decay,
                    expected="what a query leaves of the sum, above 0 and at most 1",
                )
            )

    def score(self, view: LayerView) -> Tensor:
        """Decayed sums; the newest tokens score above them, the newest highest."""
        return newest_first(view.statistics["decayed_sums"], view, self.recents)
