"""Window: the last tokens, encoded anew for every decision, as Decision Transformers are published.

It has no cache to forget from, and nothing older than the window reaches a decision. The price is
to encode the whole window every time. 60 tokens are the 20 steps of Chen et al. (2021,
arXiv 2106.01345). An adapter whose class has a method ``window_agent`` serves it; a window of
*cached* tokens, which know of older ones, is ``recency`` with ``sinks: 0``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.policies.base import Budget, LayerView, Observation, Selection

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED = Budget(tokens=60)


@dataclass(frozen=True)
class Window:
    """Newer scores higher; the selection is the window's size, in tokens."""

    selection: Selection = PUBLISHED
    name: str = "window"
    needs: Observation = Observation.NONE
    reencodes: ClassVar[bool] = True

    def score(self, view: LayerView) -> Tensor:
        """Position, of what an attached memory would keep: the same tokens."""
        return view.positions.float()


def reencodes(policy: object) -> bool:
    """Whether a policy encodes its tokens anew, and so is no memory to attach."""
    return bool(getattr(policy, "reencodes", False))
