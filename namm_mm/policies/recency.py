"""Recency with sinks: the first few tokens and the newest ones (StreamingLLM, arXiv 2309.17453)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.policies.base import QUARTER, LayerView, Observation, Selection, at_most_half

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Recency:
    """Newer scores higher; the first `sinks` tokens score highest.

    Sinks are part of the score and not of the budget's protection, so that every budget that the
    experiment sets keeps them; they take half of it at most.
    """

    selection: Selection = QUARTER
    sinks: int = 4
    name: str = "recency"
    needs: Observation = Observation.NONE

    def score(self, view: LayerView) -> Tensor:
        """Position, with the sinks above all."""
        score = view.positions.float()
        return score.masked_fill(view.positions < at_most_half(self.sinks, view), float(view.seen))
