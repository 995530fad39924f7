"""Protected: the two ends of the context stay, and the rest by position (arXiv 2605.18053)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Protected(Policy):
    """A part of the budget at each end of the context; newer tokens take what is left.

    It asks how much of a result is due to guarded ends, before any score of attention.

    Attributes
    ----------
    part
        Part of the budget at each end, above 0 and below a half.
    """

    name: ClassVar[str] = "protected"
    least_tokens: ClassVar[int] = 3  # one at each end
    part: float = 0.1

    def check(self) -> None:
        """Raise `UsageError` for a part that leaves nothing between the ends, or no budget."""
        if not 0.0 < self.part < 0.5:
            raise UsageError(
                message("wrong part of protected", given=self.part, expected="above 0, below 0.5")
            )

    def score(self, view: LayerView) -> Tensor:
        """Position; the first tokens, a part of the budget, above all others."""
        limits = view.lengths if view.limits is None else view.limits
        ends = (limits * self.part).round().long().clamp_min(1)[..., None]
        return view.positions.float() + view.seen * (view.positions < ends)
