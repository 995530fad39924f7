"""Full cache: forget nothing. The yardstick of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.policies.base import KEEP_ALL, AnyBudget, LayerView, Policy, refuse_protection

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Full(Policy):
    """Keep every token."""

    name: ClassVar[str] = "full"
    budget: AnyBudget = KEEP_ALL

    def check(self) -> None:
        """Refuse protection: nothing is evicted."""
        refuse_protection(self)

    def score(self, view: LayerView) -> Tensor:
        """All tokens alike."""
        return view.positions.new_zeros(view.positions.shape).float()
