"""Recency with sinks: the first few tokens and the newest ones (StreamingLLM, arXiv 2309.17453)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Recency(Policy):
    """Newer scores higher; the first `sinks` tokens score highest."""

    name: ClassVar[str] = "recency"
    sinks: float = 4

    def score(self, view: LayerView) -> Tensor:
        """Position."""
        return view.positions.float()
