"""Ada-KV: the heads of a layer share its budget, with a floor for each (arXiv 2407.11550)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import Budget, Selection
from namm_mm.policies.over import Over


@dataclass(frozen=True)
class AdaKV(Over):
    """The best tokens of all heads of a layer stay, wherever they are. Needs storage per head.

    Attributes
    ----------
    floor
        Part of an equal share that each head keeps in any case.
    """

    floor: float = 0.2

    @property
    def name(self) -> str:
        """Its own name and that of the policy below."""
        return f"adakv({self.below.name})"

    def check(self) -> None:
        """Raise `UsageError` for a floor that is not a part."""
        if not 0.0 <= self.floor <= 1.0:
            raise UsageError(
                message("wrong floor of adakv", given=self.floor, expected="0 to 1, a part")
            )

    @property
    def selection(self) -> Selection:
        """The budget, shared by the heads of a layer."""
        budget = super().selection
        if not isinstance(budget, Budget):
            return budget
        return replace(budget, pooled=True, floor=self.floor)
