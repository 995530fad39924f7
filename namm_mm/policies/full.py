"""Full cache: forget nothing. The yardstick of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.policies.base import KEEP_ALL, LayerView, Observation, Selection

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Full:
    """Keep every token."""

    selection: Selection = KEEP_ALL
    name: str = "full"
    needs: Observation = Observation.NONE

    def score(self, view: LayerView) -> Tensor:
        """All tokens alike."""
        return view.positions.new_zeros(view.positions.shape).float()
