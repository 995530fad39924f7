"""L2: tokens whose key has a small norm stay (Devoto et al., EMNLP 2024, arXiv 2406.11430)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import Budget, LayerView, Policy, Selection

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class L2(Policy):
    """Minus the L2 norm of the cached key. Needs no attention.

    Norms are taken in float32: in bfloat16 most of them tie, and the tie decides what is kept. As
    published, the first two layers keep every token, where norms say little of attention. A budget
    is that of the other layers. ``match`` budgets name the size of each layer, the first ones too.

    Attributes
    ----------
    whole_layers
        So many of the lowest layers keep every token.
    """

    name: ClassVar[str] = "l2"
    whole_layers: int = 2

    def check(self) -> None:
        """Raise `UsageError` for a negative number of layers."""
        if self.whole_layers < 0:
            raise UsageError(
                message(
                    f"wrong whole_layers of {self.name}",
                    given=self.whole_layers,
                    expected="0 or more layers",
                )
            )

    @property
    def selection(self) -> Selection:
        """The budget, for the layers above the lowest ones."""
        budget = super().selection
        if not isinstance(budget, Budget):
            return budget
        return replace(budget, whole_layers=self.whole_layers)

    def score(self, view: LayerView) -> Tensor:
        """Minus the norm of each key."""
        return -view.keys.float().square().sum(dim=-1).sqrt()


@dataclass(frozen=True)
class L2All(L2):
    """L2 that evicts in every layer. Our setting, not the authors'."""

    name: ClassVar[str] = "l2_all"
    whole_layers: int = 0
