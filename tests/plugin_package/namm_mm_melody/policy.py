"""Stride: every second token is worth more than the others, and newer ones more than older ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.policies.base import AnyBudget, LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Stride(Policy):
    """Keep every `stride`-th token first."""

    name: ClassVar[str] = "stride"
    budget: AnyBudget = 0.5
    stride: int = 2

    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot): above 1 for every `stride`-th position, newest highest."""
        chosen = (view.positions % self.stride == 0).float()
        return chosen + view.positions.float() / view.seen
