"""SnapKV: what the last queries of the context look at stays (arXiv 2404.14469)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.observations.last_queries import LastQueries
from namm_mm.policies.base import LayerView, Policy, at_most_half

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SnapKV(Policy):
    """Attention of the last queries, averaged over neighbouring tokens and the query group.

    The last `recents` tokens are the observation window: their queries are asked, and they always
    stay. The window takes half of the budget at most.

    Attributes
    ----------
    kernel
        Width of the average over neighbouring tokens, odd.
    """

    name: ClassVar[str] = "snapkv"
    recents: int = 32
    kernel: int = 5

    def check(self) -> None:
        """Raise `UsageError` for a window or a kernel that cannot be."""
        if self.recents < 1:
            raise UsageError(
                message("wrong recents of snapkv", given=self.recents, expected="1 or more")
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UsageError(
                message("wrong kernel of snapkv", given=self.kernel, expected="an odd number")
            )

    @property
    def needs(self) -> LastQueries:
        """The queries of the window."""
        return LastQueries(self.recents)

    def score(self, view: LayerView) -> Tensor:
        """Mean weight from the window's queries, smoothed over slots outside the window."""
        import torch

        weights = view.statistics["last_queries"]
        rows, heads, slots = view.positions.shape
        grouped = weights.view(rows, heads, -1, weights.shape[2], slots).mean(2)
        newest = torch.arange(weights.shape[2] - 1, -1, -1, device=weights.device)
        window = at_most_half(self.recents, view)
        asked = (newest < window).expand(rows, heads, -1).to(weights.dtype)
        received = torch.einsum("rhqs,rhq->rhs", grouped, asked)
        received = received / asked.sum(-1, keepdim=True).clamp_min(1.0)
        received = received.masked_fill(view.age < window, 0.0)
        return torch.nn.functional.avg_pool1d(received, self.kernel, 1, self.kernel // 2)
