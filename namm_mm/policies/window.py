"""Window: the last tokens, encoded anew for every decision, as Decision Transformers are published.

It has no cache to forget from, and nothing older than the window reaches a decision. Its cost is to
encode the whole window every time. 60 tokens are the 20 steps of Chen et al. (2021,
arXiv 2106.01345). An adapter whose class has a method ``window_agent`` serves it; a window of
*cached* tokens, which know of older ones, is ``recency`` with ``sinks: 0``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.policies.base import AnyBudget, Budget, LayerView, Policy, refuse_protection

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED = Budget(tokens=60)


@dataclass(frozen=True)
class Window(Policy):
    """Newer scores higher; the budget is the window's size, in tokens."""

    name: ClassVar[str] = "window"
    reencodes: ClassVar[bool] = True
    budget: AnyBudget = PUBLISHED

    def check(self) -> None:
        """Refuse protection: a window is its newest tokens."""
        refuse_protection(self)

    def score(self, view: LayerView) -> Tensor:
        """Position, of what an attached memory would keep: the same tokens."""
        return view.positions.float()
