"""Slow mean: the attention that a token receives, older attention counting less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.observations import DecayedSums
from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AttentionEma(Policy):
    """Exponential sum of the attention received, plus the newest tokens.

    What a NAMM sees, without the network: its first frequency bin, unlearned. Decay 1 is H2O.
    """

    name: ClassVar[str] = "attention_ema"
    decay: float = 0.999
    recents: float = 16

    @property
    def needs(self) -> DecayedSums:
        """Sums with this decay."""
        return DecayedSums(self.decay)

    def check(self) -> None:
        """Raise `UsageError` for a wrong decay."""
        DecayedSums(self.decay)

    def score(self, view: LayerView) -> Tensor:
        """Decayed sums."""
        return view.statistics["decayed_sums"]
