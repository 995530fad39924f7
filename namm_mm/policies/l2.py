"""L2: tokens whose key has a small norm stay (Devoto et al., EMNLP 2024, arXiv 2406.11430)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class L2(Policy):
    """Minus the L2 norm of the cached key. Needs no attention.

    Norms are taken in float32: in bfloat16 most of them tie, and the tie decides what is kept.
    """

    name: ClassVar[str] = "l2"

    def score(self, view: LayerView) -> Tensor:
        """Minus the norm of each key."""
        return -view.keys.float().square().sum(dim=-1).sqrt()
