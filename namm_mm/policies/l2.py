"""L2: tokens whose key has a small norm stay (Devoto et al., EMNLP 2024, arXiv 2406.11430)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.policies.base import (
    QUARTER,
    LayerView,
    Observation,
    Selection,
    check_recents,
    newest_first,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class L2:
    """Minus the L2 norm of the cached key. Needs no attention.

    Norms are taken in float32: in bfloat16 most of them tie, and the tie decides what is kept.
    `recents` newest tokens always stay; 0 as published.
    """

    selection: Selection = QUARTER
    recents: int = 0
    name: str = "l2"
    needs: Observation = Observation.NONE

    def __post_init__(self) -> None:
        check_recents(self.recents)

    def score(self, view: LayerView) -> Tensor:
        """Minus the norm of each key."""
        norms = view.keys.float().square().sum(dim=-1).sqrt()
        return newest_first(-norms, view, self.recents)
