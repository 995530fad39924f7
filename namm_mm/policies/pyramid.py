"""PyramidKV: budgets shrink linearly from the lowest layer to the highest (arXiv 2406.02069)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import Budget, Selection
from namm_mm.policies.over import Over


@dataclass(frozen=True)
class Pyramid(Over):
    """The mean over layers is the budget; the highest layer gets a `beta`-th of it.

    Attributes
    ----------
    beta
        How many times smaller than the mean the budget of the highest layer is.
    """

    beta: float = 20.0

    @property
    def name(self) -> str:
        """Its own name and that of the policy below."""
        return f"pyramid({self.below.name})"

    def check(self) -> None:
        """Raise `UsageError` for a slope that would rise."""
        if self.beta < 1.0:
            raise UsageError(
                message("wrong beta of pyramid", given=self.beta, expected="1 or more")
            )

    @property
    def selection(self) -> Selection:
        """The budget, with a slope over layers."""
        budget = super().selection
        return replace(budget, beta=self.beta) if isinstance(budget, Budget) else budget
